"""The place of a process among those that a launcher started, and the precision it supports."""

import logging
import os

import torch
from accelerate import PartialState

from mpox.core.errors import InputError

logger = logging.getLogger(__name__)

# The variables that a launcher sets for each of its processes.
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Ask accelerate to split the model or the batch in ways that this training does not support.
FOREIGN = (
    "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG", "ACCELERATE_USE_SAGEMAKER",
)  # fmt: skip


def start() -> PartialState:
    """Joins the launched processes; call it before any work.

    Without a GPU accelerate joins torchrun's processes only if it is told to use the CPU.
    InputError for variables that ask for unsupported training, or that are only partly set.
    """
    for name in FOREIGN:
        if os.environ.get(name, "").lower() not in ("", "0", "false", "no", "off"):
            raise InputError(
                f"{name}: got {os.environ[name]!r}, which is not supported; unset {name}"
            )
    several = _is_launched()
    try:
        return PartialState(cpu=several and not torch.cuda.is_available())
    except (RuntimeError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the launched processes cannot be joined: {reason}; see docs/hardware.md, or unset "
            f"{' '.join(LAUNCHER)} to run one process"
        ) from None


def _is_launched() -> bool:
    """Whether a launcher started several processes; InputError if its variables are incomplete."""
    numbers = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": -1}
    for name, alone in numbers.items():
        value = os.environ.get(name) or str(alone)
        if not value.removeprefix("-").isdecimal():
            raise InputError(f"{name}: got {value!r}, expected a number; unset {name}")
        numbers[name] = int(value)
    missing = [name for name in LAUNCHER if not os.environ.get(name)]
    if missing and (numbers["WORLD_SIZE"] > 1 or numbers["RANK"] > 0 or numbers["LOCAL_RANK"] >= 0):
        present = [name for name in LAUNCHER if name not in missing]
        raise InputError(
            f"{', '.join(present)}: set without {', '.join(missing)}, perhaps by an earlier job; "
            f'unset {" ".join(present)}, or start with LAUNCH="torchrun …" (docs/hardware.md)'
        )
    return numbers["WORLD_SIZE"] > 1


def check_precision(key: str, precision: str) -> None:
    """InputError for fp16 on a CPU, and a warning for bf16; call it before any work.

    `key` is the parameter's full name.
    """
    if PartialState().device.type != "cpu":
        return
    if precision == "fp16":
        raise InputError(f"{key}: got fp16, which needs a GPU; expected fp32 or bf16")
    if precision == "bf16":
        logger.warning("%s: bf16 takes several times as long as fp32 without a GPU", key)
