"""Scores any classifier's predictions: `python -m stages.score_predictions CSV`.

CSV has the columns `file` and `probability` (of mpox), with a row for each test photo of
data/prepared and data/prepared_controls, which stages.export_dataset copies to FOLDER/test. Prints
AUROC with the interval that `utility` gives its own classifiers.
"""

import sys
from pathlib import Path

import stages
from mpox.params import Params, read


def main(params: Params, file: Path) -> str:
    from mpox.core.picture_set import PictureSet
    from mpox.utility import predictions

    mpox, controls = (
        PictureSet.read(Path("data", name, "test")) for name in ("prepared", "prepared_controls")
    )
    auroc = predictions.score(file, mpox, controls, params.seed)
    return (
        f"AUROC {auroc.value:.3f}, interval of 95 % {auroc.low:.3f} to {auroc.high:.3f} "
        f"({len(mpox)} test photos of mpox, {len(controls)} of other conditions, "
        f"{len({*mpox.patients, *controls.patients})} patients)"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: {__doc__}")
    with stages.plain_errors():
        sys.stdout.write(main(read(Path("params.yaml"), Params), Path(sys.argv[1])) + "\n")
