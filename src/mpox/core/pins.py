"""Fix the number of threads and the processor's instructions, so that results are bit-identical.

The rounding of a sum depends on both. On machines without a GPU every stage except pretraining is
limited to what any x86-64 processor with AVX2 has, so that all of them give the same bits
(docs/hardware.md). On machines with a GPU the processor is not limited.
"""

import os
from pathlib import Path

PINNED = {
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "1",  # on matrices this small two threads mostly wait for each other
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENCV_IPP": "avx2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
# Threads that spin for long starve working ones; threads that sleep at once wake too late. A
# training step of the embedded base takes 0.34 s with this count, 0.69 s if they sleep at once.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
OFFLINE = {
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def pin() -> None:
    """Set this process's environment. Call it before importing numpy or torch."""
    for name, value in (WAITING | OFFLINE).items():
        os.environ.setdefault(name, value)
    if not any(Path(device).exists() for device in GPUS):
        os.environ.update(PINNED)


def unpin() -> None:
    """Undo PINNED, except for values that the caller's environment has changed."""
    for name, value in PINNED.items():
        if os.environ.get(name) == value:
            del os.environ[name]
