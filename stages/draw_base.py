"""Draws with the base alone, from the prompts and seeds of `generate`.

python -m stages.draw_base PHOTOS OUT; PHOTOS is the folder with train_lora's photos.json.
"""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, photos: Path, out: Path) -> None:
    from mpox.core import seeds
    from mpox.sampling import sampler
    from mpox.sampling.sampler import Job

    model, settings, side = Path(params.model.path), params.generate, params.resolution
    seed = seeds.first(params.generate.seed, params.train.seed, params.seed)
    sampler.draw_folder(Job("draw_base", model, settings, side, seed, photos=photos), out)


if __name__ == "__main__":
    run(main, launched=True)
