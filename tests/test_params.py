"""The committed files, what does not fit together in one, and files that are none."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import at, refusal
from pydantic import ValidationError
from ruamel.yaml import YAML

from mpox.core.errors import InputError
from mpox.params import Params, Phantoms, Sampler, Section, TinySD, read

ROOT = Path(__file__).resolve().parents[1]
FILES: dict[str, type[Section]] = {
    "params.yaml": Params,
    "params/sd15.yaml": Params,
    "params/study.yaml": Params,
    "params/phantom.yaml": Phantoms,
    "params/tiny-sd.yaml": TinySD,
}
PROFILES = [file for file, schema in FILES.items() if schema is Params]
every_file = pytest.mark.parametrize("file", FILES)


def load(file: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(ROOT / file)


def leaves(node: dict, prefix: tuple = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


@every_file
def test_the_committed_files_are_valid(file):
    read(ROOT / file, FILES[file])


def test_all_profiles_have_the_same_keys():
    keys = [sorted(path for path, _ in leaves(load(file))) for file in PROFILES]
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.parametrize("file", PROFILES)
def test_a_preview_shows_what_will_be_drawn(file):
    profile = read(ROOT / file, Params)
    for name in ("guidance", "steps", "scheduler"):
        assert getattr(profile.train.preview, name) == getattr(profile.generate, name)


def test_a_key_that_an_earlier_file_lacks_is_named_with_the_line_to_add(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(" +target: base_prediction.*\n", "", text))
    with pytest.raises(InputError) as refused:
        read(tmp_path / "params.yaml", Params)
    assert str(refused.value).endswith(
        ": train.prior_preservation.target: missing; add target: class_pictures for the earlier "
        "behaviour"
    )


def test_a_section_that_an_earlier_file_lacks_is_named_with_the_line_that_mends_it(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    lacking = re.sub(r"utility: +#.*\n(  .*\n)+", "", text)
    (tmp_path / "params.yaml").write_text(lacking)
    with pytest.raises(InputError) as refused:
        read(tmp_path / "params.yaml", Params)
    said, added = str(refused.value).removesuffix(" for the earlier behaviour").split("; add ")
    assert said.endswith("params.yaml: utility: missing")
    (tmp_path / "params.yaml").write_text(f"{lacking}\n{added}\n")
    assert read(tmp_path / "params.yaml", Params) == read(ROOT / "params.yaml", Params)


# What only a validator of the schema refuses, and what the refusal mentions.
TOGETHER: list[tuple[dict[str, Any], list[str]]] = [
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
    ({"data.patients": r"^mpox_p\d+"}, ["data.patients", r"^mpox_p\\d+", "has 0"]),
    ({"data.patients": "(a)(b)"}, ["data.patients", "(a)(b)", "has 2"]),
    (
        {"train.lr_scheduler": "constant", "train.warmup_steps": 5},
        ["train", "warmup_steps", "5", "constant_with_warmup"],
    ),
    (
        {
            "train.prior_preservation": {"target": "class_pictures", "weight": 1, "batch_size": 5},
            "draw_class.num_images": 4,
        },
        ["train.prior_preservation.batch_size (5)", "draw_class.num_images (4)"],
    ),
    (
        {"train.caption_dropout": 0.1},
        ["train: caption_dropout (0.1) must be 0", "prior_preservation.target is base_prediction"],
    ),
    (
        {
            "train.dora": True,
            "train.target_modules": "attention+feed_forward+convolution",
            "train.precision": "bf16",
        },
        ["train", "precision (bf16)", "fp32", "DoRA on convolutions"],
    ),
    (
        {"train.warmup_steps": 7, "train.max_steps": 7},
        ["train", "warmup_steps (7)", "max_steps (7)"],
    ),
    ({"data.patients": "(a"}, ["data.patients", "(a", "regular expression"]),
    ({"data.columns": ["variant"]}, ["data.columns", "variant is reserved"]),
    (
        {"data.columns": ["n"], "train.instance_prompt": "a lesion, {n}"},
        ["train.instance_prompt", "no {n}", "expected one of ['tone']"],
    ),
    ({"evaluate.by": ["site"]}, ["evaluate.by", "no 'site'", "['tone']"]),
    (
        {"generate.scheduler": "pndm", "generate.steps": 1000},
        ["generate", "steps (1000)", "999", "pndm"],
    ),
    ({"generate.steps": 61}, ["generate", "steps (61)", "dpm++_sde", "timestep -1"]),
    (
        {"train.lr_scheduler": "polynomial", "train.learning_rate": 1e-7},
        ["train", "learning_rate (1e-07)", "above 1e-07", "polynomial"],
    ),
    (
        {"evaluate.download": ["inception_v3"]},
        ["evaluate", "download must be []", "['inception_v3'] for efficientnet_lite0 with None"],
    ),
    (
        {
            "evaluate.features": "inception_v3",
            "evaluate.weights": "elsewhere/i.pth",
            "evaluate.download": ["inception_v3"],
        },
        ["evaluate", "name the features, with weights in models/features", "'elsewhere/i.pth'"],
    ),
    ({"evaluate.features": "inception_v3"}, ["evaluate", "weights", "inception_v3", "None"]),
    (
        {"utility.download": ["resnet18"], "utility.weights": "models/features/r.pth"},
        ["utility", "download must be []", "['resnet18'] for linear with 'models/features/r.pth'"],
    ),
    (
        {"utility.classifier": "cnn", "utility.download": ["resnet18"]},
        ["utility", "with weights in models/features", "['resnet18'] for cnn with None"],
    ),
    ({"data.source": "s3://photos"}, ["data.source", "s3://photos", "expected a folder"]),
]


def refused_together(changes: dict[str, Any], folder: Path) -> tuple[str, str]:
    """The key that is blamed, and why."""
    content = load("params.yaml")
    for key, value in changes.items():
        *path, last = key.split(".")
        at(content, tuple(path))[last] = value
    (blamed,) = refusal(folder, content, Params).items()
    return blamed


@pytest.mark.parametrize(("changes", "mentions"), TOGETHER)
def test_what_does_not_fit_together_is_refused(changes, mentions, tmp_path):
    said = ": ".join(refused_together(changes, tmp_path))
    assert [mention for mention in mentions if mention not in said] == []


@pytest.mark.parametrize("name", ["pndm", "dpm++", "dpm++_sde", "unipc", "ddim"])
def test_steps_are_refused_where_a_scheduler_leaves_its_timesteps(name):
    from diffusers import PNDMScheduler

    from mpox.sampling.sampler import SCHEDULERS

    base = PNDMScheduler.from_pretrained(ROOT / "models/tiny-sd", subfolder="scheduler")
    kind, options = SCHEDULERS[name]
    schedule = kind.from_config(base.config, **options)
    refused = []
    for steps in range(1, 1001):
        schedule.set_timesteps(steps)
        inside = schedule.timesteps.min() >= 0 and schedule.timesteps.max() < 1000
        try:
            Sampler(guidance=1.0, steps=steps, scheduler=name, batch_size=1)
            assert inside, steps
        except ValidationError:
            assert not inside, steps
            refused.append(steps)
    assert refused == [1000] if name == "pndm" else {61, 998} < {*refused}


def test_a_polynomial_schedule_cannot_rise():
    import torch
    from diffusers.optimization import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-7)
    with pytest.raises(ValueError, match="must be smaller than initial lr"):
        get_scheduler("polynomial", optimizer, num_warmup_steps=0, num_training_steps=9)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "not found"),
        ("a: [1", "not readable as YAML"),
        ("seed: 1\nseed: 2\n", "duplicate key"),
        ("seed: \xff".encode("latin1"), "not readable as YAML"),
        ("", "dictionary"),
        ("- seed", "dictionary"),
        ("seed: !!int x", "invalid literal"),
        ("seed: " + "9" * 5000, "4300 digits"),
        ("[" * 900, "recursion"),
        ("seed: !!python/object/apply:os.abort []", "could not determine a constructor"),
        ("{a: 1}: 2", "unhashable"),
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


def test_a_folder_in_a_files_place_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path, Params)


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


def test_the_embedded_profile_is_the_committed_params():
    """So that the report can say what was changed since."""
    assert (ROOT / "params/embedded.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
