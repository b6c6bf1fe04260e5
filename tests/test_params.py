"""The committed parameter files, values that do not fit together, and broken files."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import at
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


def load(file: Path) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(file)


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
    keys = [sorted(path for path, _ in leaves(load(ROOT / file))) for file in PROFILES]
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.parametrize("file", PROFILES)
def test_a_preview_shows_what_will_be_drawn(file):
    profile = read(ROOT / file, Params)
    for name in ("guidance", "steps", "scheduler"):
        assert getattr(profile.train.preview, name) == getattr(profile.generate, name)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (" +target: base_prediction.*\n", "train.prior_preservation.target"),
        (r"utility: +#.*\n(  .*\n)+", "utility"),
    ],
)
def test_a_key_that_an_earlier_file_lacks_is_named_with_the_line_to_add(lines, key, tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(lines, "", text))
    with pytest.raises(InputError) as refused:
        read(tmp_path / "params.yaml", Params)
    message, addition = (
        str(refused.value).removesuffix(" for the earlier behaviour").split("; add ")
    )
    assert message.endswith(f"params.yaml: {key}: missing")
    value = load(tmp_path / "params.yaml")
    at(value, tuple(key.split(".")[:-1])).update(YAML(typ="safe").load(addition))
    YAML().dump(value, tmp_path / "params.yaml")
    read(tmp_path / "params.yaml", Params)


# Values that do not fit together, and the message, where … stands for any text.
TOGETHER = {
    "train.warmup_steps=7; train.max_steps=7": "train: …warmup_steps (7)…max_steps (7)",
    "train.lr_scheduler=constant; train.warmup_steps=5": "train: …5…constant_with_warmup",
    "train.lr_scheduler=polynomial; train.learning_rate=1e-7": "train: …1e-07…polynomial",
    "train.caption_dropout=0.1": "train: caption_dropout (0.1)…target is base_prediction",
    "train.prior_preservation={target: class_pictures, weight: 1, batch_size: 5}; "
    "draw_class.num_images=4": "prior_preservation.batch_size (5)…draw_class.num_images (4)",
    "train.dora=true; train.precision=bf16": "train: precision (bf16)…fp32…DoRA on convolutions",
    "data.split={train: 0.6, val: 0.25, test: 0.3}": "data.split: …0.6…0.25…0.3…add up to 1",
    "data.patients='^mpox_p\\d+'": r"data.patients: got '^mpox_p\\d+'…has 0",
    "data.patients=(a)(b)": "data.patients: got '(a)(b)'…has 2",
    "data.patients=(a": "data.patients: got '(a'…regular expression",
    "data.columns=[variant]": "data.columns: …variant is reserved",
    "data.columns=[source]": "data.columns: …source is reserved",
    "data.columns=[n]; train.instance_prompt='a lesion, {n}'": "instance_prompt: no {n}…['tone']",
    "data.source='s3://photos'": "data.source: got 's3://photos': expected a folder",
    "augment.gaussian_noise={p: 0.1, sigma_min: 9.5, sigma_max: 4.5}": "gaussian_noise: …9.5…4.5",
    "generate.scheduler=pndm; generate.steps=1000": "generate: steps (1000)…999…pndm",
    "generate.steps=61": "generate: steps (61)…dpm++_sde…timestep -1",
    "evaluate.by=[site]": "evaluate.by: no 'site'…['tone']",
    "evaluate.features=inception_v3": "evaluate: weights…None for inception_v3",
    "evaluate.weights=models/features": "evaluate: weights…efficientnet_lite0",
    "evaluate.download=[inception_v3]": "evaluate: download…efficientnet_lite0 with None",
    "evaluate.features=inception_v3; evaluate.weights=elsewhere/i.pth; "
    "evaluate.download=[inception_v3]": "evaluate: download…models/features…'elsewhere/i.pth'",
    "utility.download=[resnet18]; utility.weights=models/features/r.pth": "utility: …for linear",
    "utility.classifier=cnn; utility.download=[resnet18]": "utility: …for cnn with None",
}


@pytest.mark.parametrize("changes", TOGETHER)
def test_values_that_do_not_fit_together_are_refused(changes):
    pattern = re.escape(TOGETHER[changes]).replace("…", ".*")
    values = dict(change.split("=", 1) for change in changes.split("; "))
    with pytest.raises(InputError, match=pattern):
        read(ROOT / "params.yaml", Params, values)


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


@pytest.mark.parametrize(
    ("text", "reason"),
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
def test_a_broken_file_is_named(text, reason, tmp_path):
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        read(path, Params)
    assert reason in str(error.value)
    assert ": :" not in str(error.value)


def test_a_folder_in_a_files_place_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path, Params)


@pytest.mark.parametrize("schema", [Params, Phantoms, TinySD])
def test_no_key_has_a_default_and_none_can_be_changed(schema):
    sections = [schema]
    for section in sections:  # the list grows
        fields = section.model_fields.values()
        assert all(field.is_required() for field in fields), section
        assert section.model_config["frozen"] and section.model_config["extra"] == "forbid"
        kinds = [field.annotation for field in fields]
        sections += [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]


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
