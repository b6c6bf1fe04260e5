"""Photos to split pictures: `python -m stages.prepare OUT METRICS`."""

import json
import logging
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, out: Path, metrics: Path) -> None:
    from mpox.photos import preparation

    source = Path(params.data.source)
    counts = preparation.prepare(source, out, params.data, params.resolution, params.seed)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    logging.info(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    run(main)
