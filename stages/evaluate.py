"""Synthetic against real pictures.

python -m stages.evaluate REAL SYNTHETIC METRICS PICTURES [TRAINING]

REAL, SYNTHETIC and TRAINING are any folders of pictures, METRICS the JSON file to write, PICTURES
the folder for the sheets to look at. TRAINING is what the model was trained on: without it nothing
is said of copies. Patients are those of a folder's metadata.csv, as `prepare` writes it: without
one each picture counts as a patient of its own. params.yaml's `evaluate` says on which features,
and how many pictures of each folder at most.
"""

import json
from pathlib import Path

from mpox.core.errors import InputError
from mpox.params import Params
from stages import run


def main(
    params: Params,
    real: Path,
    synthetic: Path,
    metrics: Path,
    pictures: Path,
    training: Path | None = None,
) -> None:
    from mpox.core import folders, images
    from mpox.core.picture_set import PictureSet
    from mpox.measures import evaluation, sheets
    from mpox.pictures.feature_set import Sets

    folders.check_vacant(pictures)
    if metrics.exists():
        raise InputError(f"{metrics}: exists already; remove it or name another file")
    sets = Sets(
        PictureSet.read(real),
        PictureSet.read(synthetic),
        PictureSet.read(training) if training else None,
    )
    result = evaluation.evaluate(sets, params.evaluate, params.resolution, params.seed)
    pictures.mkdir(parents=True, exist_ok=True)
    images.write(pictures / "contact_sheet.jpg", result.contact_sheet, quality=sheets.QUALITY)
    if result.pairs:
        pairs = sheets.pairs(result.pairs)
        images.write(pictures / "suspicious_pairs.jpg", pairs, quality=sheets.QUALITY)
        sheets.write_table(pictures / "suspicious_pairs.csv", result.pairs)
    folders.write(pictures / "influences.json", json.dumps(result.influences).encode())
    result.metrics.write(metrics)


if __name__ == "__main__":
    run(main)
