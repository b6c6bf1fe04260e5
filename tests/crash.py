"""Stops the pipeline at random moments and resumes it: `make crash`, thirty times.

Each time `dvc repro` starts in a repository without results and is stopped in the middle of a stage
by SIGKILL, SIGTERM or Ctrl-C to all its processes. After a second `dvc repro` the repository must
hold the bytes of an undisturbed run, and no checkpoint.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 60  # seconds that a stopped run gets to end by itself


class Finished(NamedTuple):
    """A run of `dvc repro` that nobody stopped."""

    durations: dict[str, float]  # of each stage, in seconds
    output: str


def stop_and_go(
    repository: Path,
    durations: dict[str, float],
    stages: Iterable[str],
    seed: int,
    target: str | None = None,
) -> Iterator[tuple[str, bool]]:
    """Stops in each of `stages`; yields a description and whether the outputs are the same.

    `repository` holds committed code, parameters, git-ignored photos and the results of a `run`
    with these `durations`. The moment, drawn from `seed`, is uniform over the time that the stage
    takes undisturbed. With a `target`, stages after it are neither run nor compared.
    """
    expected = result(repository)
    rng = np.random.default_rng(seed)
    for stage in stages:
        after = rng.uniform(0, durations[stage])
        with_signal = SIGNALS[rng.integers(len(SIGNALS))]
        reset(repository)
        run(repository, (stage, after, with_signal))
        run(repository, target=target)
        outcome = result(repository)
        if target:  # its checkpoint stays until a later stage removes it
            keys = outcome.keys() - {".checkpoints"}
            same = all(outcome[key] == expected[key] for key in keys)
        else:
            same = outcome == expected
        yield f"{with_signal.name} in {stage} after {after:.1f} of {durations[stage]:.1f} s", same


def reset(repository: Path) -> None:
    """Back to what is committed, and the photos."""
    git = ("git", "-C", str(repository))
    subprocess.run([*git, "checkout", "-q", "--", "."], check=True)
    excluded = ("-e", "data/photos", "-e", "data/controls", "-e", "dvc.lock")
    subprocess.run([*git, "clean", "-fdxq", *excluded], check=True)
    (repository / "dvc.lock").unlink(missing_ok=True)


def run(
    repository: Path,
    stop: tuple[str, float, signal.Signals] | None = None,
    target: str | None = None,
) -> Finished | None:
    """`dvc repro`, or None if it was stopped: a stage, seconds after its start, a signal."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["dvc", "repro", *([target] if target else [])],
        cwd=repository,
        env={**os.environ, "PATH": path, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, starts = "", {}
    for line in process.stdout:
        output += line
        if stage := re.match(r"Running stage '(\w+)'", line):
            starts[stage[1]] = time.monotonic()
            if stop and stage[1] == stop[0]:
                break
    if stop:
        time.sleep(stop[1])
        if process.poll() is not None:
            raise RuntimeError(f"ended before it was stopped:\n{output}")
        os.killpg(process.pid, stop[2])
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return None
    if process.wait():
        raise RuntimeError(output)
    moments = [*starts.values(), time.monotonic()]
    return Finished(dict(zip(starts, np.diff(moments), strict=True)), output)


def result(repository: Path) -> dict[str, object]:
    """The MD5 of every output, every file of metrics/, and the names left in .checkpoints."""
    lock = YAML(typ="safe").load(repository / "dvc.lock")
    outs = {out["path"]: out["md5"] for s in lock["stages"].values() for out in s["outs"]}
    metrics = {path.name: path.read_bytes() for path in (repository / "metrics").rglob("*.*")}
    checkpoints = sorted(path.name for path in (repository / ".checkpoints").glob("*"))
    return {**outs, **metrics, ".checkpoints": checkpoints}


def main(times: int) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    import test_stages

    with tempfile.TemporaryDirectory() as folder:
        repository = test_stages.tiny(Path(folder), LONGER)
        same = 0
        finished = run(repository)
        durations = finished.durations
        stages = itertools.islice(itertools.cycle(durations), times)
        for stop, identical in stop_and_go(repository, durations, stages, seed=0):
            same += identical
            print(f"{stop}: {'identical' if identical else 'DIFFERENT'}", flush=True)
    print(f"{same} of {times} identical")
    sys.exit(same < times)


# More work than in the tests, so that a stage spends its time in it and not in importing torch.
LONGER = {
    "train": {
        "max_steps": 40, "val_loss_steps": 4, "validation_steps": 20, "checkpointing_steps": 20,
    },
    "generate": {"num_images": 24, "steps": 2},
}  # fmt: skip

if __name__ == "__main__":
    main(int(sys.argv[1]))
