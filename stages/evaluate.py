"""Synthetic against real pictures: python -m stages.evaluate REAL SYNTHETIC METRICS PICTURES.

REAL and SYNTHETIC are any two folders of pictures, METRICS the JSON file to write, PICTURES the
folder for the contact sheet. params.yaml's `evaluate` says on which features, and how many
pictures of each folder at most.
"""

import json
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, real: Path, synthetic: Path, metrics: Path, pictures: Path) -> None:
    from mpox import evaluation, images

    numbers, sheet = evaluation.evaluate(
        real, synthetic, params.evaluate, params.resolution, params.seed
    )
    pictures.mkdir(parents=True, exist_ok=True)
    images.write(pictures / "contact_sheet.jpg", sheet)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
