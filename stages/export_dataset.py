"""Writes the training set in the layout that any trainer of classifiers reads.

python -m stages.export_dataset FOLDER [--synthetic SHARE [--placebo]] [--labels]

Run it after `dvc repro`. It writes FOLDER/{train,val,test}/{mpox,other}/*.png and
FOLDER/metadata.csv, with the patients split as in the pipeline. This is not a DVC stage, because
no stage depends on its output.
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
        raise InputError("--placebo: expected --synthetic SHARE with it, to know how many")
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
            "Train at %d pixels or fewer: photos have up to %d, so at more pixels a network can "
            "recognise synthetic pictures by their sharpness.",
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
        help="add synthetic pictures to train/mpox, up to this share of it",
    )
    parser.add_argument(
        "--placebo", action="store_true", help="use pictures drawn by the base instead"
    )
    parser.add_argument("--labels", action="store_true", help="one class per label instead of two")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with stages.plain_errors():
        main(
            read(Path("params.yaml"), Params),
            options.folder,
            options.synthetic,
            options.placebo,
            options.labels,
        )
