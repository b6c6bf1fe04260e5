"""Every key of every schema with every wrong value that follows from the schema itself."""

import math
import re
import shutil
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
from conftest import ROOT, at, refusal
from dvc.utils.serialize import modify_yaml
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

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
    message: str


def refusals(folder: Path, schema: type[Section]) -> Iterator[Refused]:
    """In turn the first wrong value of every key, the second of every key that has one, …"""
    for together in by_depth(schema):
        wrong = {key.path: wrong_type(key) + out_of_range(key) for key in together}
        for turn in range(max(map(len, wrong.values()), default=0)):
            content = load(schema)
            changes = {path: values[turn] for path, values in wrong.items() if turn < len(values)}
            for path, value in changes.items():
                at(content, path[:-1])[path[-1]] = value
            messages = refusal(folder, content, schema)
            for path, value in changes.items():
                key = ".".join(path)
                # In a list single elements may be wrong.
                names = [name for name in messages if re.fullmatch(rf"{key}(\.\d+)?", name)]
                assert names, f"{key} = {value!r} was accepted"
                first, *_ = [messages.pop(name) for name in names]
                yield Refused(key, value, first)
            assert not messages


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> dict[type[Section], list[Refused]]:
    folder = tmp_path_factory.mktemp("wrong")
    return {schema: list(refusals(folder, schema)) for schema in FILES}


@every_schema
def test_every_wrong_value_of_every_key_is_refused_and_named(schema, refused):
    tried = {one.key for one in refused[schema]}
    assert tried == {key.name for key in keys(schema)}
    for key, value, message in refused[schema]:
        if not isinstance(value, dict):
            values = [value, *value] if isinstance(value, list) else [value]
            starts = tuple(f"got {one!r}: " for one in values)
            assert message.startswith(starts), (key, value, message)


@every_schema
def test_messages_name_each_limit_and_each_choice(schema, refused):
    messages = defaultdict(str)
    for key, _, message in refused[schema]:
        messages[key] += f"{message} "
    for key in keys(schema):
        for limit in key.limits:
            if not isinstance(limit, Gt | Ge | Lt | Le | MultipleOf | MinLen):
                continue
            (number,) = (getattr(limit, name) for name in limit.__slots__ or vars(limit))
            assert re.search(rf"\b{number:.19g}\b", messages[key.name]), (key, messages[key.name])
        if typing.get_origin(key.kind) is Literal:
            assert all(repr(choice) in messages[key.name] for choice in typing.get_args(key.kind))


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
    messages = refusal(tmp_path, content, schema)
    assert messages == {".".join((*place, "learning_rates")): "no such key" for place in places}


def test_a_small_number_as_dvc_writes_it_is_a_number(tmp_path):
    """DVC writes 0.00005 as 5e-05, a string to YAML 1.1."""
    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    with modify_yaml(path) as content:
        content["train"]["learning_rate"] = 0.00005
    assert "learning_rate: 5e-05" in path.read_text()
    assert read(path, Params).train.learning_rate == 0.00005


def test_a_stage_names_every_wrong_key_before_any_work(tmp_path):
    paths = [str(tmp_path / f"path{number}") for number in range(3)]
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare", *paths, "train.rank=eight", "seed=-1"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: params.yaml: seed: got -1: input should be greater than or equal to 0\n"
        "params.yaml: train.rank: got 'eight': input should be a valid integer\n"
    )
    assert list(tmp_path.iterdir()) == []
