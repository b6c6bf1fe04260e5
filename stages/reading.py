"""Score the answers of a reading study: `python -m stages.reading ANSWERS…`.

ANSWERS are the files that readers saved (CSV or JSON). The key is data/reading/key.csv; the
pictures must be those the kit was made from. Writes metrics/reading.json, which fills the page's
section "Readers".
"""

import sys
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, *files: Path) -> None:
    from mpox.core.picture_set import PictureSet
    from mpox.reading import answers, study

    if not files:
        sys.exit(f"usage: {__doc__}")
    key = answers.read_key(Path("data/reading/key.csv"))
    readers = answers.read(files, key, params.reading.incomplete == "count")
    folders = {"test": Path("data/prepared/test"), "synthetic": Path("data/synthetic")}
    pictures = {name: PictureSet.read(folder) for name, folder in folders.items()}
    metrics = study.measure(key, readers, params.reading, pictures, params.resolution)
    metrics.write(Path("metrics/reading.json"))


if __name__ == "__main__":
    run(main)
