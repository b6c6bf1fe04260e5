"""Scores the answers of a reading study: `python -m stages.reading ANSWERS…`.

ANSWERS are the files that readers saved (CSV or JSON); the key is data/reading/key.csv, the
pictures are where the kit took them. Writes metrics/reading.json, of which the page has a section.
"""

import sys
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, *files: Path) -> None:
    from mpox.reading import answers, study

    if not files:
        sys.exit(f"usage: {__doc__}")
    key = answers.read_key(Path("data/reading/key.csv"))
    readers = answers.read(files, key, params.reading.incomplete == "count")
    pictures = {"test": Path("data/prepared/test"), "synthetic": Path("data/synthetic")}
    found = study.measure(key, readers, params.reading, pictures, params.resolution)
    found.write(Path("metrics/reading.json"))


if __name__ == "__main__":
    run(main)
