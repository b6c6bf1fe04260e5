"""What DVC calls: a thin file a stage, run as `python -m stages.x PATH …`."""

import inspect
import logging
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

STARTED = time.monotonic()
CHANGE = re.compile(r"[a-z0-9_.]+=")
# This checkout's code, never an installed copy: `dvc exp run --temp` runs elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no network
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from mpox.errors import InputError
from mpox.params import Params, Section, read


def run(main: Callable, params_file: str = "params.yaml", schema: type[Section] = Params) -> None:
    """Calls `main(params, *paths)` with the paths of the command line; a user's mistake exits 1.

    By hand, outside DVC, `key=value` after the paths changes a parameter for that one call.
    """
    first = os.environ.get("RANK", "0") == "0"  # of the processes a launcher started
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(message)s")
    changes = dict(word.split("=", 1) for word in sys.argv[1:] if CHANGE.match(word))
    paths = [Path(word) for word in sys.argv[1:] if not CHANGE.match(word)]
    try:
        params = read(Path(params_file), schema, changes)
        if isinstance(params, Params):
            _find_weights(params)
        try:
            inspect.signature(main).bind(params, *paths)
        except TypeError:
            sys.exit(f"usage: {main.__globals__['__doc__']}")
        main(params, *paths)
        _log_cost()
    except InputError as error:
        sys.exit(f"error: {error}")


def _find_weights(params: Params) -> None:
    """Stops the first stage, not the last, if what evaluation needs is not there."""
    weights = params.evaluate.weights
    if weights is not None and not Path(weights).exists():
        import torch

        from mpox import features

        features.load(params.evaluate.features, Path(weights), torch.device("cpu"))


def _log_cost() -> None:
    """Time and peak memory: in the log, for in an output they would differ from run to run."""
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.monotonic() - STARTED
    logging.info("took %.0f s, peak memory %.1f GB", seconds, gigabytes)
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        logging.info("peak GPU memory %.1f GB", torch.cuda.max_memory_allocated() / 2**30)
