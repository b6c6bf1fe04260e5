"""Scores any classifier on the test photos: `python -m stages.score_predictions CSV`.

CSV has the columns file and probability, of mpox: a row for each test photo of data/prepared and
data/prepared_controls, which stages.export_dataset writes to FOLDER/test. Prints AUROC with the
interval that `utility` gives its own classifiers.
"""

import sys
from pathlib import Path

import stages
from mpox.params import Params, read


def main(params: Params, file: Path) -> str:
    from mpox.utility import predictions

    prepared, controls = Path("data/prepared"), Path("data/prepared_controls")
    found, test = predictions.score(file, prepared, controls, params.seed)
    return (
        f"AUROC {found.value:.3f}, interval of 95 % {found.low:.3f} to {found.high:.3f} "
        f"({test.mpox.sum()} test photos of mpox, {(~test.mpox).sum()} of other conditions, "
        f"{len(set(test.patients))} patients)"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: {__doc__}")
    with stages.plain_errors():
        sys.stdout.write(main(read(Path("params.yaml"), Params), Path(sys.argv[1])) + "\n")
