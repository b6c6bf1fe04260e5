"""Photos to split pictures: `python -m stages.prepare SOURCE OUT METRICS`."""

import json
import logging
from pathlib import Path

from mpox.params import Params
from stages import repository, run


def main(params: Params, source: Path, out: Path, metrics: Path) -> None:
    from mpox import preparation

    repository.check("data.source", source)
    counts = preparation.prepare(source, out, params.data, params.resolution, params.seed)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    logging.info(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    run(main)
