"""The kit of a reading study: `python -m stages.reading_kit [FOLDER]`, after `dvc repro`.

Writes FOLDER/kit.html for the readers and FOLDER/key.csv for the study's desk (data/reading); the
pictures are those of data/prepared/test and data/synthetic. docs/reading.md is the protocol.
"""

import logging
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, out: Path = Path("data/reading")) -> None:
    from mpox.core import folders
    from mpox.reading import kit

    folders.check_vacant(out)
    real, synthetic = Path("data/prepared/test"), Path("data/synthetic")
    made = kit.build(real, synthetic, params.reading, params.resolution, params.seed)
    with folders.whole(out) as folder:
        (folder / "kit.html").write_text(kit.page(made), encoding="utf-8")
        (folder / "key.csv").write_text(made.key, encoding="utf-8")
    for name, count in made.counts.items():
        logging.info("%d %s", count, name)
    wanted = params.reading.pictures
    if made.counts["real"] < wanted:
        logging.info("reading.pictures asks for %d of either class; there are fewer", wanted)
    logging.info(
        "kit %s: %s is for the readers, %s never leaves the study's desk. The kit's pictures lack "
        "the mark of AI, which would give the answer away: destroy it after the study.",
        made.content["kit"], out / "kit.html", out / "key.csv",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
