"""What DVC calls: a thin file a stage, run as `python -m stages.x PATH …`."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

# This checkout's code, never an installed copy: `dvc exp run --temp` runs elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no network
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from mpox.errors import InputError
from mpox.params import Params, read


def run(main: Callable, params_file: str = "params.yaml", schema: type = Params) -> None:
    """Calls `main(params, *paths)` with the paths of the command line; a user's mistake exits 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main(read(Path(params_file), schema), *map(Path, sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
