"""Draws the class pictures, by the base alone: `python -m stages.draw_class OUT`."""

import os
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, out: Path) -> None:
    """The class pictures in `out`; an empty table, at once, where training takes none."""
    from mpox.core import folders, table

    prior = params.train.prior_preservation
    if not prior.draws_class():
        if os.environ.get("RANK", "0") == "0":  # of the processes that a launcher started
            folders.check_vacant(out)
            out.mkdir(parents=True, exist_ok=True)
            table.write(out, ["text", "negative_prompt", "seed"], {})
        return
    from mpox.model import processes
    from mpox.sampling import sampler

    process = processes.start()
    if process.is_main_process:  # on several machines the others may look before DVC clears them
        folders.check_vacant(out)
    model, side, seed = Path(params.model.path), params.resolution, params.seed
    sampler.draw_folder("draw_class", out, model, None, params.draw_class, side, seed)
    process.destroy_process_group()


if __name__ == "__main__":
    run(main, launched=True)
