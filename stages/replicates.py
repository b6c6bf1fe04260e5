"""Runs of the same settings with other seeds, among all commits and experiments of a repository."""

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
    """What `evaluate` and all before it were made of, as dvc.lock has it."""

    inputs: frozenset[tuple[str, str]]  # path and MD5 of what no stage made: photos, base, code
    params: frozenset[tuple[str, str]]  # without SEEDS
    seeds: tuple[str, ...]  # of training and drawing, those that hold

    def repeats(self, other: "Recipe") -> bool:
        """Whether the two differ in their seeds alone."""
        return (self.inputs, self.params) == (other.inputs, other.params)


def recipe(lock: bytes, metrics: bytes) -> Recipe | None:
    """None where dvc.lock records no run that gave these `metrics`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        stages = YAML(typ="safe").load(lock)["stages"]
        made = {out["path"]: name for name, own in stages.items() for out in own.get("outs", ())}
        [recorded] = [o["md5"] for o in stages["evaluate"]["outs"] if o["path"] == METRICS]
        inputs, params = _gather(stages, made)
    except (YAMLError, KeyError, TypeError, AttributeError, ValueError):
        return None
    if recorded != hashlib.md5(metrics).hexdigest():
        return None
    given = [params.pop(key, "null") for key in SEEDS]
    run, training, drawing = params.get("seed", "null"), *given
    training = run if training == "null" else training
    drawing = training if drawing == "null" else drawing
    return Recipe(frozenset(inputs.items()), frozenset(params.items()), (training, drawing))


def _gather(
    stages: Mapping[str, Any], made: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Inputs and parameters of `evaluate` and of every stage that it needs."""
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
            whose = [made[str(p)] for p in (path, *path.parents) if str(p) in made]
            todo += whose[:1]
            if not whose:
                inputs[str(path)] = str(dep["md5"])
        for given in stages[name].get("params", {}).values():
            params |= texts(given)
    return inputs, params


def find(own: Recipe, metrics: Metrics) -> list[Metrics]:
    """`metrics` and those of every run that differs from it in its seeds alone, each run once."""
    found = {own.seeds: metrics}
    for lock, content in _history():
        # Few runs are of the same code: no other one's record is worth parsing.
        if all(md5.encode() in lock for _, md5 in own.inputs):
            other = recipe(lock, content)
            if other and own.repeats(other) and other.seeds not in found:
                found[other.seeds] = Metrics.parse(content, METRICS)
    return list(found.values())


def _history() -> Iterator[tuple[bytes, bytes]]:
    """dvc.lock and the evaluation's metrics of every state that git keeps, experiments too."""
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
