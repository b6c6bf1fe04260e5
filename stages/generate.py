"""Draws the synthetic pictures: `python -m stages.generate LORA OUT`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, adapter: Path, out: Path) -> None:
    from mpox.core import seeds
    from mpox.sampling import sampler
    from mpox.sampling.sampler import Job

    model, settings, side = Path(params.model.path), params.generate, params.resolution
    seed = seeds.first(params.generate.seed, params.train.seed, params.seed)
    sampler.draw_folder(Job("generate", model, settings, side, seed, adapter, adapter), out)


if __name__ == "__main__":
    run(main, launched=True)
