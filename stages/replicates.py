"""Find runs with the same settings and other seeds, in all commits and experiments."""

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mpox.report.provenance import texts
from mpox.statistics.estimate import Metrics

LOCK, METRICS = "dvc.lock", "metrics/evaluation.json"
SEEDS = ("train.seed", "generate.seed")


class Recipe(NamedTuple):
    """The inputs and parameters of `evaluate` and all stages before it, as recorded in dvc.lock."""

    inputs: frozenset[tuple[str, str]]  # path and MD5 of files that no stage made
    params: frozenset[tuple[str, str]]  # without SEEDS
    seeds: tuple[str, ...]  # the seeds that training and drawing used

    def repeats(self, other: "Recipe") -> bool:
        """Whether the two differ at most in their seeds."""
        return (self.inputs, self.params) == (other.inputs, other.params)


def recipe(lock: bytes, metrics: bytes) -> Recipe | None:
    """The recipe in a dvc.lock; None if it records no run that gave these `metrics`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        stages = YAML(typ="safe").load(lock)["stages"]
        made = {out["path"]: name for name, each in stages.items() for out in each.get("outs", ())}
        [recorded] = [o["md5"] for o in stages["evaluate"]["outs"] if o["path"] == METRICS]
        inputs, params = _gather(stages, made)
    except (YAMLError, KeyError, TypeError, AttributeError, ValueError):
        return None
    if recorded != hashlib.md5(metrics).hexdigest():
        return None
    training, drawing = (params.pop(key, "null") for key in SEEDS)
    run = params.get("seed", "null")
    training = run if training == "null" else training
    drawing = training if drawing == "null" else drawing
    return Recipe(frozenset(inputs.items()), frozenset(params.items()), (training, drawing))


def _gather(
    stages: Mapping[str, Any], made: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Inputs and parameters of `evaluate` and all stages before it; made: stage by output."""
    inputs: dict[str, str] = {}
    params: dict[str, str] = {}
    todo, seen = ["evaluate"], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for dep in stages[name].get("deps", ()):
            path = PurePosixPath(dep["path"])
            makers = [made[str(p)] for p in (path, *path.parents) if str(p) in made]
            todo += makers[:1]
            if not makers:
                inputs[str(path)] = str(dep["md5"])
        for values in stages[name].get("params", {}).values():
            params |= texts(values)
    return inputs, params


def find(run: Recipe, metrics: Metrics) -> list[Metrics]:
    """The `metrics` of a run, then those of its replicates, one for each pair of seeds."""
    runs = {run.seeds: metrics}
    for lock, content in _history():
        # Parsing is slow, and few runs have the same inputs.
        if all(md5.encode() in lock for _, md5 in run.inputs):
            other = recipe(lock, content)
            if other and run.repeats(other) and other.seeds not in runs:
                runs[other.seeds] = Metrics.parse(content, METRICS)
    return list(runs.values())


def _history() -> Iterator[tuple[bytes, bytes]]:
    """dvc.lock and metrics/evaluation.json of every commit, including those of experiments."""
    log = ["git", "log", "--all", "--full-history", "--format=%H", "--", LOCK]
    commits = subprocess.run(log, capture_output=True, check=True, text=True).stdout.split()
    wanted = "".join(f"{each}:./{LOCK}\n{each}:./{METRICS}\n" for each in commits)
    stored = subprocess.run(
        ["git", "cat-file", "--batch"], input=wanted.encode(), capture_output=True, check=True
    ).stdout
    seen, start = set(), 0
    for _ in commits:
        pair = []
        for _ in (LOCK, METRICS):
            end = stored.index(b"\n", start)
            words = stored[start:end].split()
            start = end + 1
            if words[-1] != b"missing":
                size = int(words[2])
                pair.append(stored[start : start + size])
                start += size + 1
        if len(pair) == 2 and tuple(pair) not in seen:
            seen.add(tuple(pair))
            yield pair[0], pair[1]
