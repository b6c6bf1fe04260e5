"""The commands that DVC runs: one thin file for each stage, `python -m stages.NAME PATH …`."""

import getpass
import inspect
import logging
import os
import re
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

STARTED = time.monotonic()
CHANGE = re.compile(r"[a-z0-9_.]+=")
# This checkout's code, never an installed copy: `dvc exp run --temp` runs elsewhere.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
# Warnings of libraries that tell a user nothing: the logger and a part of the message.
NOISE = {
    "bitsandbytes.backends.cpu.ops": "gemm_4bit_forward",  # 4-bit products, which no stage uses
    "diffusers.loaders.lora_base": "No LoRA keys associated to",  # model.lora counts them
    "diffusers.loaders.peft": "No LoRA keys associated to",
}


def _name_user() -> None:
    """Set LOGNAME for a user without a name, as in containers; PyTorch and DVC need one."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["LOGNAME"] = str(os.getuid())


def _silence(logger: str, part: str) -> None:
    logging.getLogger(logger).addFilter(lambda record: part not in record.getMessage())


_name_user()
for name, part in NOISE.items():
    _silence(name, part)

try:
    from mpox.core import pins

    pins.pin()
    from mpox.core.errors import InputError
    from mpox.params import Params, Section, read
except ModuleNotFoundError as error:
    sys.exit(f"error: {sys.executable} has no {error.name}; first: . .venv/bin/activate")


def run(
    main: Callable,
    params_file: str = "params.yaml",
    schema: type[Section] = Params,
    launched: bool = False,
) -> None:
    """Call `main(params, *paths)` with the paths of the command line.

    Outside DVC, `key=value` after the paths changes a parameter for this call. If the stage can run
    in several processes (`launched`), the launcher in LAUNCH starts them.
    """
    if launched and os.environ.get("LAUNCH", "").strip():
        launch()
    first = os.environ.get("RANK", "0") == "0"  # of the launched processes
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(message)s")
    changes = dict(word.split("=", 1) for word in sys.argv[1:] if CHANGE.match(word))
    paths = [Path(word) for word in sys.argv[1:] if not CHANGE.match(word)]
    from stages import inputs

    with plain_errors(), inputs.unchanged():
        params = read(Path(params_file), schema, changes)
        if isinstance(params, Params):
            if params.train.optimizer != "adamw_8bit":
                # If it is installed, diffusers and PEFT import it, and with it PyTorch's compiler:
                # two seconds at every start.
                sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]
            from stages import guards

            guards.check(params)
        try:
            inspect.signature(main).bind(params, *paths)
        except TypeError:
            sys.exit(f"usage: {main.__globals__['__doc__']}")
        main(params, *paths)
        if first:
            from mpox.model import checkpoints

            checkpoints.sweep(Path(sys.argv[0]).stem)
        _log_cost()


def launch() -> NoReturn:
    """Start this command again under the launcher in LAUNCH, as `torchrun … --no-python`.

    The launcher replaces this process. The processes that it starts have no LAUNCH.
    """
    launcher = os.environ.pop("LAUNCH")
    try:
        words = shlex.split(launcher)
        os.execvp(words[0], [*words, *sys.orig_argv])
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"error: LAUNCH: {launcher!r} cannot be started: {reason}")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn user and environment errors into a one-line message and exit status 1.

    Among them are a full disk, too little memory, and another process that died.
    """
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except RuntimeError as error:
        torch = sys.modules.get("torch")
        if not torch:
            raise
        if isinstance(error, torch.OutOfMemoryError):
            sys.exit(f"error: {error}\nSee docs/hardware.md for what needs less memory.")
        if "onnection closed by peer" in str(error) or "onnection reset by peer" in str(error):
            sys.exit(
                "error: another process of this run has ended; see its output for the reason. "
                "`dvc repro` resumes from the last resume point"
            )
        raise
    except OSError as error:
        # The system's own errors, such as a full disk or a read-only folder.
        if error.errno is None:
            raise
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror}")


def _log_cost() -> None:
    """Time and peak memory, which are logged only: an output would differ from run to run."""
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.monotonic() - STARTED
    logging.info("took %.0f s, peak memory %.1f GB", seconds, gigabytes)
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        logging.info("peak GPU memory %.1f GB", torch.cuda.max_memory_allocated() / 2**30)
