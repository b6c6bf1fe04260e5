"""Draws the class pictures, by the base alone: `python -m stages.draw_class OUT`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, out: Path) -> None:
    from mpox import checkpoints, folders, processes
    from mpox.diffusion import sampling

    process = processes.start()
    if process.is_main_process:  # on several machines the others may look before DVC clears them
        folders.check_vacant(out)
    model, side, seed = Path(params.model.path), params.resolution, params.seed
    sampling.draw_folder("draw_class", out, model, None, params.draw_class, side, seed)
    if process.is_main_process:
        checkpoints.sweep("tiny-sd")
    process.destroy_process_group()


if __name__ == "__main__":
    run(main)
