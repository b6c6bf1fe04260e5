"""Draws the class pictures, by the base alone: `python -m stages.draw_class OUT`."""

import os
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, out: Path) -> None:
    """The class pictures in `out`; an empty table, at once, where training takes none."""
    prior = params.train.prior_preservation
    if not prior.draws_class():
        from mpox.core import folders, table

        if os.environ.get("RANK", "0") == "0":  # of the processes that a launcher started
            folders.check_vacant(out)
            table.write(out, ["text", "negative_prompt", "seed"], {})
        return
    from mpox.sampling import sampler
    from mpox.sampling.sampler import Job

    model, settings = Path(params.model.path), params.draw_class
    sampler.draw_folder(Job("draw_class", model, settings, params.resolution, params.seed), out)


if __name__ == "__main__":
    run(main, launched=True)
