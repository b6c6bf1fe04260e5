"""Draws the class pictures with the base alone: `python -m stages.draw_class OUT`."""

import os
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, out: Path) -> None:
    """Writes the class pictures to `out`; only an empty table if training needs none."""
    prior = params.train.prior_preservation
    if not prior.draws_class():
        from mpox.core import folders, table

        if os.environ.get("RANK", "0") == "0":  # the first of the launched processes
            folders.check_vacant(out)
            table.write(out, ["text", "negative_prompt", "seed"], {})
        return
    from mpox.sampling import sampler
    from mpox.sampling.sampler import Job

    model, settings = Path(params.model.path), params.draw_class
    sampler.draw_folder(Job("draw_class", model, settings, params.resolution, params.seed), out)


if __name__ == "__main__":
    run(main, launched=True)
