"""Draws the synthetic pictures: `python -m stages.generate LORA OUT`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, adapter: Path, out: Path) -> None:
    from mpox import checkpoints, folders, processes, seeds
    from mpox.diffusion import sampling

    process = processes.start()
    if process.is_main_process:  # on several machines the others may look before DVC clears them
        folders.check_vacant(out)
    model, side = Path(params.model.path), params.resolution
    seed = seeds.first(params.generate.seed, params.train.seed, params.seed)
    sampling.draw_folder("generate", out, model, adapter, params.generate, side, seed, adapter)
    if process.is_main_process:
        checkpoints.sweep("train_lora")
    process.destroy_process_group()


if __name__ == "__main__":
    run(main)
