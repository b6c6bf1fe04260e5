"""prepare on many small photos: python benchmarks/many_photos.py N [N …].

N photos of 64 pixels, four a patient, each of colours at random: read, held against each other for
near duplicates, split. Prints seconds and memory.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
PHOTOS = 4  # a patient


def draw(folder: Path, number: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(number):
        patient = folder / f"{i // PHOTOS:06d}"
        patient.mkdir(parents=True, exist_ok=True)
        colours = rng.integers(40, 220, (6, 6, 3), dtype=np.uint8)
        photo = cv2.resize(colours, (64, 64), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(patient / f"{i:06d}.jpg"), photo)


for number in map(int, sys.argv[1:]):
    with tempfile.TemporaryDirectory() as work:
        draw(Path(work, "photos"), number)
        started = time.perf_counter()
        outputs = [f"{work}/{name}" for name in ("prepared", "controls", "counts.json")]
        settings = [f"data.source={work}/photos", "data.controls=data/none", "data.patients=folder"]
        command = [sys.executable, "-m", "stages.prepare", *outputs, *settings]
        _, status, usage = os.wait4(subprocess.Popen(command, cwd=ROOT).pid, 0)
        if status:
            sys.exit("prepare failed")
        memory = usage.ru_maxrss / 2**20
        print(f"{number:,}: {time.perf_counter() - started:.0f} s, {memory:.1f} GB")
