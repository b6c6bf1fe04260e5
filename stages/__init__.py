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
# Threads that wait long starve others that work, threads that sleep at once wake too late: a
# training step of the embedded base takes 0.34 s like this, 0.69 s if they sleep at once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no network
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Sums are rounded in another order by other numbers of threads and wider vectors. Without a GPU
# every stage (but pretraining) takes what any x86-64 processor with AVX2 has, so that all of them
# give the same bits (docs/reproducibility.md); where there is a GPU its feeding may take the
# whole processor.
PINNED = {
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "1",  # on such small matrices two threads mostly wait for each other
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENCV_IPP": "avx2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")):
    os.environ.update(PINNED)
# Warnings of libraries' that tell a user nothing: logger, and what the message has in it.
NOISE = {
    "bitsandbytes.backends.cpu.ops": "gemm_4bit_forward",  # products of 4 bits: no stage has them
    "diffusers.loaders.lora_base": "No LoRA keys associated to",  # diffusion.lora counts them itself
    "diffusers.loaders.peft": "No LoRA keys associated to",
}


def _quieten(logger: str, said: str) -> None:
    logging.getLogger(logger).addFilter(lambda record: said not in record.getMessage())


for name, said in NOISE.items():
    _quieten(name, said)

try:
    from mpox.errors import InputError
    from mpox.params import (
        Evaluate,
        Params,
        Section,
        check_prompts,
        check_resolution,
        check_weights,
        read,
    )
    from stages import repository
except ModuleNotFoundError as error:
    sys.exit(f"error: {sys.executable} has no {error.name}; first: . .venv/bin/activate")


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
            repository.check_commit()
            repository.check("data.source", Path(params.data.source))
            repository.check("model.path", Path(params.model.path))
            _check_files(params)
        try:
            inspect.signature(main).bind(params, *paths)
        except TypeError:
            sys.exit(f"usage: {main.__globals__['__doc__']}")
        main(params, *paths)
        _log_cost()
    except InputError as error:
        sys.exit(f"error: {error}")
    except RuntimeError as error:
        torch = sys.modules.get("torch")
        if not torch or not isinstance(error, torch.OutOfMemoryError):
            raise
        sys.exit(f"error: {error}\nSee docs/scaling.md for what needs less memory.")
    except OSError as error:
        # A full disk, a folder that may not be written: no fault of the code, and it has a name.
        if error.errno is None:
            raise
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror}")


def _check_files(params: Params) -> None:
    """Stops the first stage, not one after the training, where something around does not fit.

    The base, evaluation's weights, and of what is still to be drawn the prompts and the precision.
    """
    stage, model = Path(sys.argv[0]).stem, Path(params.model.path)
    check_resolution(params.resolution, model)
    # Who draws with a LoRA that others trained need not evaluate.
    if params.evaluate.weights is not None and stage != "generate":
        _check_weights(params.evaluate)
    if stage == "evaluate":
        return
    train, generate = params.train, params.generate
    prompts = {
        "generate.prompt": generate.prompt,
        "generate.negative_prompt": generate.negative_prompt,
    }
    precisions = {"generate.precision": generate.precision}
    if stage != "generate":
        prompts |= {
            "train.instance_prompt": train.instance_prompt,
            "train.validation_prompt": train.validation_prompt,
            "train.prior_preservation.class_prompt": train.prior_preservation.class_prompt,
        }
        precisions["train.precision"] = train.precision
    check_prompts(prompts, model)
    for key, precision in precisions.items():
        if precision == "fp16":  # else no stage that needs none is kept waiting for torch
            from mpox.diffusion import base

            base.start()
            base.check_precision(key, precision)


def _check_weights(evaluate: Evaluate) -> None:
    """Evaluation's weights are there, or can be had from where a later stage downloads them."""
    assert evaluate.weights is not None
    try:
        check_weights(evaluate.features, evaluate.weights)
    except InputError:
        if not evaluate.download or Path(sys.argv[0]).stem == "evaluate":
            raise
        from stages import weights

        weights.fetch(evaluate.features, evaluate.weights, only_ask=True)


def _log_cost() -> None:
    """Time and peak memory: in the log, for in an output they would differ from run to run."""
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.monotonic() - STARTED
    logging.info("took %.0f s, peak memory %.1f GB", seconds, gigabytes)
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        logging.info("peak GPU memory %.1f GB", torch.cuda.max_memory_allocated() / 2**30)
