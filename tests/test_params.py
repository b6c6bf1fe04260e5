"""Every key of every parameter file, made wrong in every way its own schema knows."""

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import modify_yaml
from ruamel.yaml import YAML

from mpox.errors import InputError
from mpox.params import Params, Phantoms, Section, TinySD, read

ROOT = Path(__file__).resolve().parents[1]
FILES: dict[str, type[Section]] = {
    "params.yaml": Params,
    "params/sd15.yaml": Params,
    "params/phantom.yaml": Phantoms,
    "params/tiny-sd.yaml": TinySD,
}
every_file = pytest.mark.parametrize("file", FILES)


def load(file: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(ROOT / file)


def leaves(node: dict, prefix: tuple = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def sections(node: dict, prefix: tuple = ()) -> Iterator[tuple[str, ...]]:
    yield prefix
    for key, value in node.items():
        if isinstance(value, dict):
            yield from sections(value, (*prefix, key))


def at(node: dict, path: tuple[str, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def rules(file: str, path: tuple[str, ...]) -> dict[str, Any]:
    """The JSON schema of one key; of a nullable one, that of its other type."""
    schema = FILES[file].model_json_schema()
    node = schema
    for key in path:
        node = node["properties"][key]
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return next((one for one in node.get("anyOf", []) if one["type"] != "null"), node)


def wrong_type(rule: dict[str, Any]) -> list[Any]:
    """Values of every type but the right one, with the near misses YAML invites."""
    values: list[Any] = [{"a": 1}]
    if rule["type"] in ("integer", "number"):
        values += ["many", "5e-05", True, [1]]
    if rule["type"] == "integer":
        values += [1.5, 1e20]
    if rule["type"] == "string":
        values += [3, True, ["a"], "" if rule.get("minLength") or "enum" in rule else 0.5]
    if rule["type"] == "boolean":
        values += [1, "yes", "true"]
    if rule["type"] == "array":
        values += [3, "32", [], [32, 0], [32, "a"]]
    if "enum" in rule:
        values += ["adamw2"]
    return values


def out_of_range(rule: dict[str, Any]) -> list[float]:
    if rule["type"] not in ("integer", "number"):
        return []
    edge = 1 if rule["type"] == "integer" else 1e-3
    values = [rule["minimum"] - edge] if "minimum" in rule else []
    values += [rule["maximum"] + edge] if "maximum" in rule else []
    values += [rule[key] for key in ("exclusiveMinimum", "exclusiveMaximum") if key in rule]
    values += [rule["multipleOf"] * 100 + 1] if "multipleOf" in rule else []
    if rule["type"] == "number":
        values += [float("nan"), float("inf"), float("-inf")]
    return values


def refusal(tmp_path: Path, content: object, schema: type[Section]) -> dict[str, str]:
    """What `read` says about `content`, by dotted key."""
    path = tmp_path / "wrong.yaml"
    YAML(typ="safe", pure=True).dump(content, path)
    with pytest.raises(InputError) as error:
        read(path, schema)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    split = [line.removeprefix(f"{path}: ").split(": ", 1) for line in lines]
    return {key: what for key, what in split}


@every_file
def test_the_committed_files_are_valid(file):
    read(ROOT / file, FILES[file])


def test_both_worlds_have_the_same_keys():
    ours, clinical = (
        [path for path, _ in leaves(load(file))] for file in ("params.yaml", "params/sd15.yaml")
    )
    assert sorted(ours) == sorted(clinical)


@every_file
def test_each_missing_key_is_named(file, tmp_path):
    content = load(file)
    gone = [path for path, _ in leaves(content)]
    for path in gone:
        del at(content, path[:-1])[path[-1]]
    said = refusal(tmp_path, content, FILES[file])
    assert said == {".".join(path): "missing" for path in gone}


@every_file
def test_each_missing_section_is_named(file, tmp_path):
    top = list(load(file))
    said = refusal(tmp_path, {}, FILES[file])
    assert said == dict.fromkeys(top, "missing")


@every_file
def test_an_unknown_key_is_named_wherever_it_stands(file, tmp_path):
    content = load(file)
    places = list(sections(content))
    for path in places:
        at(content, path)["learning_rates"] = 1
    said = refusal(tmp_path, content, FILES[file])
    assert said == {".".join((*path, "learning_rates")): "no such key" for path in places}


@every_file
@pytest.mark.parametrize("ways", [wrong_type, out_of_range])
def test_each_wrong_value_is_named(file, ways, tmp_path):
    """In turn the first wrong value of every key, the second of every key that has one, …"""
    right = load(file)
    wrong = {path: ways(rules(file, path)) for path, _ in leaves(right)}
    assert sum(map(len, wrong.values())) >= len(wrong) // 2
    for turn in range(max(map(len, wrong.values()))):
        content = copy.deepcopy(right)
        now = {path: values[turn] for path, values in wrong.items() if turn < len(values)}
        for path, value in now.items():
            at(content, path[:-1])[path[-1]] = value
        said = refusal(tmp_path, content, FILES[file])
        for path, value in now.items():
            key = ".".join(path)
            # Of a list it may be one element that is wrong.
            inside = [k for k in said if k == key or re.fullmatch(rf"{re.escape(key)}\.\d+", k)]
            assert inside, f"{key} = {value!r} was accepted"
            told = value[int(inside[0].rsplit(".", 1)[1])] if inside[0] != key else value
            if not isinstance(told, dict):
                assert f"got {told!r}: " in said[inside[0]].replace("()", "[]")
        wanted = {".".join(path) for path in now}
        assert {re.sub(r"\.\d+$", "", key) for key in said} == wanted


@pytest.mark.parametrize(
    ("changes", "mentions"),
    [
        (
            {"train.warmup_steps": 500, "train.max_steps": 400},
            ["train", "warmup_steps", "500", "400"],
        ),
        (
            {"data.split": {"train": 0.6, "val": 0.25, "test": 0.3}},
            ["data.split", "add up to 1", "0.6", "0.25", "0.3"],
        ),
        (
            {"augment.gaussian_noise": {"p": 0.1, "sigma_min": 9.5, "sigma_max": 4.5}},
            ["augment.gaussian_noise", "sigma_min", "9.5", "4.5"],
        ),
        ({"data.group_pattern": r"^mpox_p\d+"}, ["data.group_pattern", r"^mpox_p\\d+", "found 0"]),
        ({"data.group_pattern": "(a)(b)"}, ["data.group_pattern", "(a)(b)", "found 2"]),
        ({"augment.elastic.p": 1.1}, ["augment.elastic.p", "1.1", "less than or equal to 1"]),
        ({"resolution": 65}, ["resolution", "65", "multiple of 8"]),
        ({"data.group_pattern": "(a"}, ["data.group_pattern", "(a", "regular expression"]),
        ({"evaluate.features": "inception_v3"}, ["evaluate", "weights", "inception_v3", "None"]),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, mentions, tmp_path):
    content = load("params.yaml")
    for key, value in changes.items():
        *path, last = key.split(".")
        at(content, tuple(path))[last] = value
    (key, what), *others = refusal(tmp_path, content, Params).items()
    assert not others
    assert [mention for mention in mentions if mention not in f"{key}: {what}"] == []


def test_a_number_as_dvc_writes_it_is_a_number(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    with modify_yaml(path) as content:
        content["train"]["learning_rate"] = 5e-05
    assert "learning_rate: 5e-05" in path.read_text()
    assert read(path, Params).train.learning_rate == 0.00005


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "not found"),
        ("a: [1", "not readable as YAML"),
        ("seed: 1\nseed: 2\n", "duplicate key"),
        ("seed: \xff".encode("latin1"), "not readable as YAML"),
        ("", "dictionary"),
        ("- seed", "dictionary"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(text, what, tmp_path):
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        read(path, Params)
    assert what in str(error.value)
    assert ": :" not in str(error.value)


def schemas(schema: type[Section]) -> Iterator[type[Section]]:
    yield schema
    for field in schema.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from schemas(field.annotation)


@pytest.mark.parametrize("schema", [Params, Phantoms, TinySD])
def test_no_key_has_a_default_and_none_can_be_changed(schema):
    found = list(schemas(schema))
    assert len(found) > 1 or schema is not Params
    for section in found:
        assert all(field.is_required() for field in section.model_fields.values()), section
        assert section.model_config["frozen"] and section.model_config["extra"] == "forbid"


def test_params_are_read_without_torch():
    heavy = {"torch", "numpy", "diffusers", "transformers", "PIL"}
    script = f"import sys, stages; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
