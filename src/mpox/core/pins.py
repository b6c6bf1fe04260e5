"""What decides the last bits of every stage: threads and instructions, held still.

Sums are rounded in another order by other numbers of threads and wider vectors. Without a GPU every
stage (but pretraining) takes what any x86-64 processor with AVX2 has, so that all of them give the
same bits (docs/reproducibility.md); where there is a GPU its feeding may take the whole processor.
"""

import os
from pathlib import Path

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
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
# Threads that wait long starve others that work, threads that sleep at once wake too late: a
# training step of the embedded base takes 0.34 s like this, 0.69 s if they sleep at once.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
OFFLINE = {
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def pin() -> None:
    """Sets the environment of this process; to be called before numpy or torch is imported."""
    for name, value in (WAITING | OFFLINE).items():
        os.environ.setdefault(name, value)
    if not any(Path(device).exists() for device in GPUS):
        os.environ.update(PINNED)


def unpin() -> None:
    """Takes back what bits were pinned by, but for what the caller's environment says otherwise."""
    for name, value in PINNED.items():
        if os.environ.get(name) == value:
            del os.environ[name]
