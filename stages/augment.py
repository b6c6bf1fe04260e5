"""Variants of the training pictures: `python -m stages.augment SOURCE OUT`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, source: Path, out: Path) -> None:
    from mpox.photos import augmentation

    augmentation.augment(source, out, params.augment, params.resolution, params.seed)


if __name__ == "__main__":
    run(main)
