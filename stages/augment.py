"""Variants of training pictures: `python -m stages.augment SOURCE OUT CONTROLS CONTROLS_OUT`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, source: Path, out: Path, controls: Path, controls_out: Path) -> None:
    from mpox import augmentation

    for pictures, variants in ((source, out), (controls, controls_out)):
        augmentation.augment(pictures, variants, params.augment, params.resolution, params.seed)


if __name__ == "__main__":
    run(main)
