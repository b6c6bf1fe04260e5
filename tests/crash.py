"""Stops the pipeline at random moments and lets it go on: `make crash`, thirty times.

Each time a repository without any result runs `dvc repro`, is stopped in the middle of a stage
(SIGKILL, SIGTERM or Ctrl-C to all its processes), runs `dvc repro` again, and must hold the bytes
of a run that nobody stopped, and no checkpoint.
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

import numpy as np
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 60  # seconds that a stopped run gets to end by itself


def stop_and_go(
    repository: Path,
    durations: dict[str, float],
    stages: Iterable[str],
    seed: int,
    target: str | None = None,
) -> Iterator[tuple[str, bool]]:
    """Stops in each of `stages`; yields what was done and whether the outcome was the same.

    `repository` holds committed code, parameters, git-ignored photos and the results of `run`,
    whose `durations` these are. The moment, drawn from `seed`, is a uniform share of the time that
    the stage takes undisturbed. With a `target` nothing after that stage is run, or compared.
    """
    expected = result(repository)
    rng = np.random.default_rng(seed)
    for stage in stages:
        after = rng.uniform(0, durations[stage])
        with_signal = SIGNALS[rng.integers(len(SIGNALS))]
        reset(repository)
        run(repository, (stage, after, with_signal))
        run(repository, target=target)
        found = result(repository)
        if target:  # what it leaves to go on from, only a later stage sweeps away
            compared = found.keys() - {".checkpoints"}
            same = all(found[key] == expected[key] for key in compared)
        else:
            same = found == expected
        yield f"{with_signal.name} in {stage} after {after:.1f} of {durations[stage]:.1f} s", same


def reset(repository: Path) -> None:
    """Back to what is committed, and the photos."""
    git = ("git", "-C", str(repository))
    subprocess.run([*git, "checkout", "-q", "--", "."], check=True)
    kept = ("-e", "data/photos", "-e", "data/controls", "-e", "dvc.lock")
    subprocess.run([*git, "clean", "-fdxq", *kept], check=True)
    (repository / "dvc.lock").unlink(missing_ok=True)


def run(
    repository: Path,
    stop: tuple[str, float, signal.Signals] | None = None,
    target: str | None = None,
) -> dict[str, float]:
    """`dvc repro`, stopped so many seconds into a stage; how many seconds each stage took."""
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
    said, started = [], {}
    for line in process.stdout:
        said.append(line)
        if found := re.match(r"Running stage '(\w+)'", line):
            started[found[1]] = time.monotonic()
            if stop and found[1] == stop[0]:
                break
    if stop:
        time.sleep(stop[1])
        if process.poll() is not None:
            raise RuntimeError(f"ended before it was stopped:\n{''.join(said)}")
        os.killpg(process.pid, stop[2])
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return {}
    if process.wait():
        raise RuntimeError("".join(said))
    moments = [*started.values(), time.monotonic()]
    return dict(zip(started, np.diff(moments), strict=True))


def result(repository: Path) -> dict[str, object]:
    """The MD5 of every output, every number in metrics/, and what is left in .checkpoints."""
    lock = YAML(typ="safe").load(repository / "dvc.lock")
    outs = {out["path"]: out["md5"] for s in lock["stages"].values() for out in s["outs"]}
    metrics = {path.name: path.read_bytes() for path in (repository / "metrics").rglob("*.*")}
    left = sorted(path.name for path in (repository / ".checkpoints").glob("*"))
    return {**outs, **metrics, ".checkpoints": left}


def main(times: int) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    import test_stages

    with tempfile.TemporaryDirectory() as folder:
        repository = test_stages.tiny(Path(folder), LONGER)
        same = 0
        durations = run(repository)
        stages = itertools.islice(itertools.cycle(durations), times)
        for said, identical in stop_and_go(repository, durations, stages, seed=0):
            same += identical
            print(f"{said}: {'identical' if identical else 'DIFFERENT'}", flush=True)
    print(f"{same} of {times} identical")
    sys.exit(same < times)


# More work than the tests', so that a stage spends its time in it and not in importing torch.
LONGER = {"train": {"max_steps": 40, "val_loss_steps": 4}, "generate": {"num_images": 24}}

if __name__ == "__main__":
    main(int(sys.argv[1]))
