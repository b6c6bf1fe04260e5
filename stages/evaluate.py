"""Compare synthetic with real pictures.

python -m stages.evaluate REAL SYNTHETIC METRICS PICTURES [TRAINING]

REAL, SYNTHETIC and TRAINING are any folders of pictures. METRICS is the JSON file to write, and
PICTURES the folder for the contact sheets. TRAINING is the model's training set; without it, copies
are not measured. Patients are read from a folder's metadata.csv, as `prepare` writes it; without
one, each picture counts as a patient of its own. `evaluate` in params.yaml sets the features and
the largest number of pictures of each folder.
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
