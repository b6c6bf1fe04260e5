"""Every key of every schema, made wrong in every way that the schema itself knows.

The table in docs/bad_parameters.md is what these tests found; `make bad-input` writes it anew.
"""

import math
import re
import subprocess
import sys
import types
import typing
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen, MultipleOf
from conftest import ROOT, at, refusal, same_table
from dvc.utils.serialize import modify_yaml
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from test_params import TOGETHER, refused_together

from mpox.core.errors import InputError
from mpox.params import EARLIER, Params, Phantoms, Section, TinySD, read

FILES: dict[type[Section], str] = {
    Params: "params.yaml",
    Phantoms: "params/phantom.yaml",
    TinySD: "params/tiny-sd.yaml",
}
every_schema = pytest.mark.parametrize("schema", FILES)


class Key(NamedTuple):
    path: tuple[str, ...]
    kind: Any  # a type, a Literal or a tuple's
    limits: list[Any]  # annotated_types
    nullable: bool

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def is_section(self) -> bool:
        return isinstance(self.kind, type) and issubclass(self.kind, Section)


def keys(schema: type[Section], parents: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key, sections before what they hold."""
    for name, field in schema.model_fields.items():
        key = Key((*parents, name), *plain(field.annotation, field.metadata))
        yield key
        if key.is_section:
            yield from keys(key.kind, key.path)


def plain(annotation: Any, limits: list[Any]) -> tuple[Any, list[Any], bool]:
    """A type without `Annotated` and `| None`, its limits, and whether null is allowed."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        base, *extra = typing.get_args(annotation)
        inner = [limit for one in extra if isinstance(one, FieldInfo) for limit in one.metadata]
        return plain(base, [*limits, *inner])
    if origin in (Union, types.UnionType):
        *words, other = (one for one in typing.get_args(annotation) if one is not type(None))
        assert all(typing.get_origin(each) is Literal for each in words)  # beside a list
        return *plain(other, limits)[:2], type(None) in typing.get_args(annotation)
    return annotation, limits, False


def wrong_type(key: Key) -> list[Any]:
    """Values of every type but the right one, with the near misses that YAML invites."""
    values: list[Any] = [] if key.nullable else [None]
    if key.is_section:
        return [*values, 3, "all", [1]]
    values.append({"a": 1})
    if key.kind in (int, float):
        values += ["many", "5e-05", "", True, [1]]
    if key.kind is int:
        values += [1.5, 1e20, math.nan, math.inf]
    if key.kind is float:
        values += [math.nan, math.inf, -math.inf]
    if key.kind is str:
        values += [3, 0.5, True, ["a"]]
    if key.kind is bool:
        values += [0, 1, "yes", "true"]
    if typing.get_origin(key.kind) is Literal:
        values += ["nothing like it", "", 3, True, ["a"]]
    if typing.get_origin(key.kind) is tuple:
        values += [[]] * any(isinstance(limit, MinLen) for limit in key.limits)
        values += [3, "32", [32, 16, 0], [32, "a", 16], [32, None, 16], [32, 12, 16]]
    return values


def out_of_range(key: Key) -> list[Any]:
    """The nearest values beyond each limit."""
    steps = [limit.multiple_of for limit in key.limits if isinstance(limit, MultipleOf)]
    edge = [*steps, 1 if key.kind is int else 1e-3][0]
    values: list[Any] = []
    for limit in key.limits:
        match limit:
            case Ge(ge=most):
                values.append(most - edge)
            case Gt(gt=most):
                values += [most, most - edge]
            case Le(le=most):
                values.append(most + edge)
            case Lt(lt=most):
                values += [most, most + edge]
            case MultipleOf(multiple_of=step):
                values += [100 * step + 1, 101 * step - 1]
            case MinLen(min_length=number) if key.kind is not str:
                values.append([32] * (number - 1))
            case MinLen():
                values.append("")
    return values


def load(schema: type[Section]) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(ROOT / FILES[schema])


def by_depth(schema: type[Section]) -> list[list[Key]]:
    """Leaves, then sections of each depth: what can be wrong at once without hiding the other."""
    leaves = [key for key in keys(schema) if not key.is_section]
    inner = [key for key in keys(schema) if key.is_section]
    depths = sorted({len(key.path) for key in inner})
    return [leaves, *([key for key in inner if len(key.path) == depth] for depth in depths)]


class Refused(NamedTuple):
    key: str
    value: Any
    said: str


def refusals(folder: Path, schema: type[Section]) -> Iterator[Refused]:
    """In turn the first wrong value of every key, the second of every key that has one, …"""
    for together in by_depth(schema):
        wrong = {key.path: wrong_type(key) + out_of_range(key) for key in together}
        for turn in range(max(map(len, wrong.values()), default=0)):
            content = load(schema)
            now = {path: values[turn] for path, values in wrong.items() if turn < len(values)}
            for path, value in now.items():
                at(content, path[:-1])[path[-1]] = value
            said = refusal(folder, content, schema)
            for path, value in now.items():
                # Of a list it may be some elements that are wrong.
                inside = [name for name in said if re.fullmatch(rf"{'.'.join(path)}(\.\d+)?", name)]
                assert inside, f"{'.'.join(path)} = {value!r} was accepted"
                first, *_ = [said.pop(name) for name in inside]
                yield Refused(".".join(path), value, first)
            assert not said


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> dict[type[Section], list[Refused]]:
    folder = tmp_path_factory.mktemp("wrong")
    return {schema: list(refusals(folder, schema)) for schema in FILES}


@every_schema
def test_every_key_is_refused_in_every_wrong_way_with_its_value(schema, refused):
    tried = {one.key for one in refused[schema]}
    assert tried == {key.name for key in keys(schema)}
    for key, value, said in refused[schema]:
        if not isinstance(value, dict):
            wrong = [value, *value] if isinstance(value, list) else [value]
            assert said.startswith(tuple(f"got {one!r}: " for one in wrong)), (key, value, said)


@every_schema
def test_a_wrong_value_is_told_what_is_allowed(schema, refused):
    """Each limit by its number, each choice by its name."""
    told = defaultdict(str)
    for key, _, said in refused[schema]:
        told[key] += f"{said} "
    for key in keys(schema):
        for limit in key.limits:
            if not isinstance(limit, Gt | Ge | Lt | Le | MultipleOf | MinLen):
                continue
            (number,) = (getattr(limit, name) for name in limit.__slots__ or vars(limit))
            assert re.search(rf"\b{number:.19g}\b", told[key.name]), (key, told[key.name])
        if typing.get_origin(key.kind) is Literal:
            assert all(repr(choice) in told[key.name] for choice in typing.get_args(key.kind))


@every_schema
def test_each_missing_key_is_named(schema, tmp_path):
    for together in by_depth(schema):
        if not together:
            continue
        content = load(schema)
        for key in together:
            del at(content, key.path[:-1])[key.path[-1]]
        assert refusal(tmp_path, content, schema) == {
            key.name: f"missing; add {key.path[-1]}: {EARLIER[key.name]} for the earlier behaviour"
            if key.name in EARLIER
            else "missing"
            for key in together
        }


@every_schema
def test_an_unknown_key_is_named_wherever_it_stands(schema, tmp_path):
    content = load(schema)
    places = [(), *(key.path for key in keys(schema) if key.is_section)]
    for place in places:
        at(content, place)["learning_rates"] = 1
    said = refusal(tmp_path, content, schema)
    assert said == {".".join((*place, "learning_rates")): "no such key" for place in places}


@every_schema
def test_a_small_number_as_dvc_writes_it_is_a_number(schema, tmp_path):
    """DVC writes 0.00005 as 5e-05, a string to YAML 1.1."""
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / FILES[schema]).read_bytes())
    small = [key for key in keys(schema) if key.kind is float and not out_of_reach(key, 5e-05)]
    with modify_yaml(path) as content:
        for key in small:
            at(content, key.path[:-1])[key.path[-1]] = 5e-05
        if schema is Params:
            content["data"]["split"]["test"] = 1 - 2 * 5e-05
            content["train"]["prior_preservation"]["target"] = "class_pictures"  # for any dropout
    assert path.read_text().count("5e-05") >= len(small) - 1
    params = read(path, schema)
    for key in small:
        value = params
        for part in key.path:
            value = getattr(value, part)
        assert value == 5e-05 or key.name == "data.split.test"
    assert len(small) > 15 or schema is not Params


def out_of_reach(key: Key, value: float) -> bool:
    return any(isinstance(limit, Ge) and value < limit.ge for limit in key.limits)


FEATURES = ("efficientnet_lite0", "inception_v3", "torchvision_inception_v3", "dinov2")


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("weights", [None, "models/features"])
def test_weights_are_named_for_every_extractor_but_the_packaged_one(features, weights, tmp_path):
    content = load(Params)
    content["evaluate"] |= {"features": features, "weights": weights}
    path = tmp_path / "params.yaml"
    YAML(typ="safe", pure=True).dump(content, path)
    if (weights is None) == (features == "efficientnet_lite0"):
        assert read(path, Params).evaluate.weights == weights
    else:
        with pytest.raises(InputError, match=f"evaluate: .*got {weights!r} for {features}"):
            read(path, Params)


@pytest.mark.parametrize(
    ("stage", "paths"),
    [
        ("prepare", 3),
        ("augment", 2),
        ("draw_class", 1),
        ("train_lora", 5),
        ("generate", 3),
        ("evaluate", 4),
    ],
)
def test_every_stage_stops_before_any_work(stage, paths, tmp_path):
    places = [str(tmp_path / f"path{number}") for number in range(paths)]
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", *places, "train.rank=eight", "seed=-1"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: params.yaml: seed: got -1: input should be greater than or equal to 0\n"
        "params.yaml: train.rank: got 'eight': input should be a valid integer\n"
    )
    assert list(tmp_path.iterdir()) == []


PREAMBLE = """# Bad parameters

Every key of every parameter file, the wrong values the tests made from its schema, and what is said
after the key and the value. Beside these, a key that is missing is `missing` and one that no schema
has is `no such key`. The last rows, with the whole message, are regular expressions and values that
do not fit together. Each stops a stage before it works, with exit status 1. Written by
`make bad-input`, held by `tests/test_bad_parameters.py`.
"""


def test_the_table_is_what_was_found(refused, tmp_path):
    lines = []
    for schema, found in refused.items():
        answers = defaultdict(list)
        for key, value, said in found:
            answers[key, re.sub(r"^got .*?: (?=[a-z])", "", said)].append(f"`{value!r}`")
        lines += [
            (FILES[schema], f"`{key}`", ", ".join(values), answer)
            for name in map(Key.name.fget, keys(schema))
            for (key, answer), values in answers.items()
            if key == name
        ]
    for changes, _ in TOGETHER:
        blamed, said = refused_together(changes, tmp_path)
        names = ", ".join(f"`{name}`" for name in changes)
        values = ", ".join(f"`{value!r}`" for value in changes.values())
        lines.append(("params.yaml", names, values, f"{blamed}: {said}"))
    same_table("bad_parameters.md", PREAMBLE, ("file", "key", "values", "answer"), lines)
