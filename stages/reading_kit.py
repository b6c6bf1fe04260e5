"""Make the kit of a reading study: `python -m stages.reading_kit [FOLDER]`, after `dvc repro`.

Writes FOLDER/kit.html for the readers and FOLDER/key.csv for the study desk (FOLDER is data/reading
if not given). The pictures come from data/prepared/test and data/synthetic. The protocol is
docs/reading.md.
"""

import logging
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, out: Path = Path("data/reading")) -> None:
    from mpox.core import folders
    from mpox.core.picture_set import PictureSet
    from mpox.reading import kit

    folders.check_vacant(out)
    real, synthetic = map(PictureSet.read, (Path("data/prepared/test"), Path("data/synthetic")))
    made = kit.build(real, synthetic, params.reading, params.resolution, params.seed)
    with folders.whole(out) as folder:
        (folder / "kit.html").write_text(kit.page(made), encoding="utf-8")
        (folder / "key.csv").write_text(made.key, encoding="utf-8")
    counts = ", ".join(f"{count} {name}" for name, count in made.counts.items())
    logging.info("Kit %s holds these pictures: %s", made.content["kit"], counts)
    if made.counts["real"] < params.reading.pictures:
        logging.info(
            "reading.pictures asks for %d of each class, but there are fewer",
            params.reading.pictures,
        )
    logging.info(
        "%s is for the readers. %s must not leave the study desk. The kit's pictures lack the mark "
        "that says which are made by AI, so destroy the kit after the study.",
        out / "kit.html", out / "key.csv",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
