"""Variants of training pictures: `python -m stages.augment SOURCE OUT CONTROLS CONTROLS_OUT`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, source: Path, out: Path, controls: Path, controls_out: Path) -> None:
    from mpox import augmentation
    from mpox.core.picture_set import PictureSet

    side, seed = params.resolution, params.seed
    for folder, variants in ((source, out), (controls, controls_out)):
        augmentation.augment(PictureSet.read(folder), variants, params.augment, side, seed)


if __name__ == "__main__":
    run(main)
