"""Writes the training set as any trainer of classifiers reads it.

python -m stages.export_dataset FOLDER [--synthetic SHARE [--placebo]] [--labels]

FOLDER/{train,val,test}/{mpox,other}/*.png and FOLDER/metadata.csv, after `dvc repro`. Patients are
split as in the pipeline. It is no stage of DVC's: nothing follows from it.
"""

import argparse
import logging
from pathlib import Path

import stages
from mpox.core.errors import InputError
from mpox.params import Params, read
from stages import repository


def main(
    params: Params, out: Path, share: float | None, placebo: bool = False, by_label: bool = False
) -> None:
    from mpox.core import folders
    from mpox.sharing import dataset

    if placebo and share is None:
        raise InputError("--placebo: expected --synthetic SHARE with it; it says how many")
    folders.check_vacant(out)
    repository.check_output(out)
    pictures = dataset.photos(Path("data/prepared"), Path("data/prepared_controls"))
    if share is not None:
        origin = "base" if placebo else "synthetic"
        pictures = dataset.add(pictures, Path("data", origin), origin, share, params.seed)
    for place, count in dataset.write(out, pictures, by_label).items():
        logging.info("%s: %d pictures", place, count)
    if share is not None:
        logging.info(
            "Train at %d pixels or fewer: photos have up to %d, so that at more a network can tell "
            "synthetic pictures by their sharpness.",
            params.resolution, 2 * params.resolution,
        )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m stages.export_dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="outside git, or ignored by it")
    parser.add_argument(
        "--synthetic",
        metavar="SHARE",
        type=float,
        help="add synthetic pictures to train/mpox, so many that they are this share of it",
    )
    parser.add_argument(
        "--placebo", action="store_true", help="the base's own pictures in their place"
    )
    parser.add_argument("--labels", action="store_true", help="a class for each label, not two")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with stages.plain_errors():
        main(
            read(Path("params.yaml"), Params),
            given.folder,
            given.synthetic,
            given.placebo,
            given.labels,
        )
