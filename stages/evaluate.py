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
    from mpox.measures import evaluation, sheets

    folders.check_vacant(pictures)
    if metrics.exists():
        raise InputError(f"{metrics}: exists already; remove it or name another file")
    found = evaluation.evaluate(
        real, synthetic, params.evaluate, params.resolution, params.seed, training
    )
    pictures.mkdir(parents=True, exist_ok=True)
    images.write(pictures / "contact_sheet.jpg", found.contact_sheet, quality=sheets.QUALITY)
    if found.pairs:
        pairs = sheets.pairs(found.pairs)
        images.write(pictures / "suspicious_pairs.jpg", pairs, quality=sheets.QUALITY)
        sheets.write_table(pictures / "suspicious_pairs.csv", found.pairs)
    folders.write(pictures / "influences.json", json.dumps(found.influences).encode())
    found.metrics.write(metrics)


if __name__ == "__main__":
    run(main)
