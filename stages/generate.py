"""Draws the synthetic pictures: `python -m stages.generate LORA OUT`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, adapter: Path, out: Path) -> None:
    from mpox.core import folders, seeds
    from mpox.model import processes
    from mpox.sampling import sampler

    process = processes.start()
    if process.is_main_process:  # on several machines the others may look before DVC clears them
        folders.check_vacant(out)
    model, side = Path(params.model.path), params.resolution
    seed = seeds.first(params.generate.seed, params.train.seed, params.seed)
    sampler.draw_folder("generate", out, model, adapter, params.generate, side, seed, adapter)
    process.destroy_process_group()


if __name__ == "__main__":
    run(main, launched=True)
