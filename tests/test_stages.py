"""The whole pipeline through DVC, on a tiny parameter file in a fresh copy of the repository."""

import csv
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import crash
import pytest
from datasets import load_dataset
from ruamel.yaml import YAML

from mpox.core import images, listing, table
from mpox.statistics import tone
from mpox.statistics.estimate import ALL, Metrics

ROOT = Path(__file__).parents[1]
SITES = ("arm", "leg")  # a second field beside the tone, which no line of code knows
TINY = {
    "data": {"source": "data/photos", "controls": "data/controls", "columns": ["site"]},
    "augment": {"copies": 1},
    "draw_class": {"num_images": 2, "steps": 2, "batch_size": 2},
    "train": {
        "rank": 2, "max_steps": 4, "warmup_steps": 1, "batch_size": 4, "validation_steps": 4,
        "validation_images": 1, "val_loss_steps": 2, "checkpointing_steps": 2,
        "prior_preservation": {"batch_size": 2},
        "preview": {"steps": 2, "batch_size": 1},
        "select": "last",  # so few steps may make nothing better, and nothing would be selected
        "instance_prompt": "a lesion, {tone} skin, {site}",
    },
    "generate": {"num_images": 5, "steps": 2, "batch_size": 4},
    "evaluate": {"max_pictures": 8, "by": ["tone", "site"]},
}  # fmt: skip

pytestmark = pytest.mark.slow


def call(folder: Path, *command: str, **environment: str) -> str:
    """Runs a command in `folder` with this environment's programs first; its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "OMP_WAIT_POLICY": "PASSIVE", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


def checkout(folder: Path) -> Path:
    """A fresh copy of the working tree, committed."""
    listed = call(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    call(folder, "git", "init", "-q", "-b", "main")
    call(folder, "git", "config", "user.email", "test@example.org")
    call(folder, "git", "config", "user.name", "test")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "state")


def set_params(folder: Path, changes: dict) -> None:
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")

    def merge(into: dict, new: dict) -> None:
        for key, value in new.items():
            if isinstance(value, dict):
                merge(into[key], value)
            else:
                into[key] = value

    merge(params, changes)
    yaml.dump(params, folder / "params.yaml")


def outputs(folder: Path) -> dict[str, str]:
    """The MD5 of every output of dvc.lock."""
    lock = YAML(typ="safe").load(folder / "dvc.lock")
    return {out["path"]: out["md5"] for s in lock["stages"].values() for out in s["outs"]}


def tiny(folder: Path, changes: dict | None = None) -> Path:
    """A copy whose photos are untracked, as a user's are, with TINY parameters and `changes`."""
    checkout(folder)
    set_params(folder, TINY)
    set_params(folder, changes or {})
    commit(folder)
    photos = folder / "data/photos"
    photos.mkdir()
    rows = {}
    for k, photo in enumerate(sorted((ROOT / "data/phantom/photos").glob("*.jpg"))[:48]):
        shutil.copy(photo, photos)
        rows[photo.name] = [SITES[k // 2 % 2]]
    table.write(photos, ["site"], rows)
    for kind in (ROOT / "data/phantom/controls").iterdir():
        (folder / "data/controls" / kind.name).mkdir(parents=True)
        for photo in sorted(kind.glob("*.jpg"))[:12]:
            shutil.copy(photo, folder / "data/controls" / kind.name)
    return folder


SUMS = """
import hashlib, stages, numpy, torch
torch.manual_seed(0)
conv, x = torch.nn.Conv2d(64, 64, 3), torch.randn(16, 64, 16, 16)
conv(x).sum().backward()
a = numpy.random.default_rng(0).standard_normal((300, 700))
sums = [conv.weight.grad.numpy(), conv(x).detach().numpy(), numpy.exp(a), a @ a.T]
print(hashlib.sha256(b"".join(each.tobytes() for each in sums)).hexdigest())
"""


def test_the_callers_environment_changes_no_bit():
    wished = [
        {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "3", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    ]
    found = {call(ROOT, sys.executable, "-c", SUMS, **each) for each in ({}, *wished)}
    assert len(found) == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """After `dvc repro`: the repository, and how many seconds each stage took."""
    folder = tiny(tmp_path_factory.mktemp("repository"))
    durations = crash.run(folder)
    assert list(durations) == [
        "prepare", "augment", "draw_class", "train_lora", "generate", "draw_base", "evaluate",
        "utility", "privacy", "report",
    ]  # fmt: skip
    commit(folder)
    return folder, durations


@pytest.fixture(scope="module")
def repository(finished) -> Path:
    return finished[0]


def test_metrics_are_finite(repository):
    metrics = Metrics.read(repository / "metrics/evaluation.json")
    for column, values in (("tone", tone.BANDS), ("site", SITES)):
        assert sum(metrics["n_synthetic", f"{column}: {value}"].value for value in values) == 5
    assert {"fid", "kid", "ssim", "copy_rate"} <= set(metrics.headlines)
    assert all(math.isfinite(each.value) for each in metrics.estimates[ALL].values())
    assert metrics.identity["n_synthetic"] == 5


def test_the_trial_judges_every_arm(repository):
    found = Metrics.read(repository / "metrics/utility.json")
    assert found.ran and found.identity["n_synthetic"] == 5
    judged = {name: own["auroc"] for name, own in found.estimates.items() if "n_mpox" in own}
    assert {*judged} == {
        "real", "real_encoded", "augmented", found.identity["main"], "synthetic", "placebo",
    }  # fmt: skip
    assert all(0 <= auroc.value <= 1 for auroc in judged.values())
    with (repository / "data/utility/arms.csv").open() as stream:
        arms = {(row["arm"], row["version"]) for row in csv.DictReader(stream)}
    assert {("real", "plain"), ("real", "encoded")} <= arms


def test_the_base_draws_by_the_same_prompts_and_seeds(repository):
    one, other = (table.read(repository / "data" / name) for name in ("synthetic", "base"))
    assert one.rows == other.rows
    names = [f"{i:05d}.png" for i in range(5)]
    pictures = [
        [images.read(repository / "data" / folder / name) for name in names]
        for folder in ("synthetic", "base")
    ]
    assert not any((a == b).all() for a, b in zip(*pictures, strict=True))


def test_no_two_sets_share_a_patient(repository):
    with (repository / "data/prepared/manifest.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["file"]]
    splits: dict[str, set[str]] = {}
    for row in rows:
        patient = re.search(r"_(p\d+)_", row["source"])[1]
        splits.setdefault(patient, set()).add(row["split"])
    assert len(splits) == 12
    assert all(len(split) == 1 for split in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}


def test_synthetic_pictures_are_there(repository):
    pictures, others = listing.find(repository / "data/synthetic")
    assert [path.name for path in pictures] == [f"{i:05d}.png" for i in range(5)]
    assert [path.name for path in others] == ["metadata.csv"]
    assert {images.read(path).shape for path in pictures} == {(64, 64, 3)}


def test_hugging_face_opens_every_folder_of_pictures(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    for name, columns in (
        ("prepared", {"patient", "group", "tone", "site"}),
        ("augmented", {"variant", "patient", "group", "tone", "site"}),
        ("class", {"text", "negative_prompt", "seed"}),
        ("synthetic", {"text", "negative_prompt", "seed", "tone", "site"}),
    ):
        folder = str(repository / "data" / name)
        opened = load_dataset("imagefolder", data_dir=folder, cache_dir=str(tmp_path / "cache"))
        assert columns <= set(opened["train"].column_names), name
        counted = listing.find(Path(folder, "train") if name == "prepared" else Path(folder))[0]
        assert opened["train"].num_rows == len(counted)
    drawn = opened["train"]
    assert drawn["seed"][0] > 2**32 and drawn["text"][0].startswith("clinical")
    # As many of each as the training photos have, and in the words that were asked for.
    assert {*drawn["site"]} == {*SITES}
    assert all(
        f", {tone} skin" in text for text, tone in zip(drawn["text"], drawn["tone"], strict=True)
    )


def test_nothing_is_left_behind(repository):
    assert list((repository / ".checkpoints").iterdir()) == []
    assert call(repository, "git", "status", "--porcelain") == ""


def test_a_second_run_has_nothing_to_do(repository):
    assert "up to date" in call(repository, "dvc", "repro")


def test_a_frozen_stages_lock_is_no_other_stages_input(repository):
    """`dvc commit` renews it after an edit of its code; nothing is trained again for that."""
    code = repository / "src/mpox/embedded/pretraining.py"
    code.write_text(code.read_text() + "# edited\n")
    call(repository, "dvc", "commit", "-f")
    assert call(repository, "git", "diff", "--name-only", "--", "models") == "models/dvc.lock\n"
    assert "up to date" in call(repository, "dvc", "repro")
    call(repository, "git", "checkout", "-q", ".")
    call(repository, "dvc", "commit", "-f")
    assert call(repository, "git", "status", "--porcelain") == ""


def test_a_rank_reruns_only_what_follows(repository):
    first = outputs(repository)
    rank = call(repository, "dvc", "exp", "run", "-S", "train.rank=16")
    assert ran(rank) == ["train_lora", "generate", "evaluate", "utility", "privacy", "report"]
    assert outputs(repository)["models/lora"] != first["models/lora"]
    assert outputs(repository)["data/base"] == first["data/base"]
    assert "train.rank" in call(repository, "dvc", "params", "diff")
    check_tables(repository)

    back = call(repository, "dvc", "exp", "run", "-S", "train.rank=2")
    assert ran(back) == []
    assert outputs(repository) == first
    call(repository, "git", "checkout", "-q", ".")


def check_tables(folder: Path) -> None:
    """DVC's tables of an experiment can be read: README's of experiments in 160 columns."""
    _, *changes = call(folder, "dvc", "metrics", "diff").splitlines()
    assert {"fid", "ssim"} <= {row.split()[1] for row in changes} and len(changes) <= 20
    shown = call(folder, "dvc", "metrics", "show").splitlines()[0].split()
    assert shown[0] == "Path" and {"fid", "ssim"} <= {*shown} and len(shown) <= 1 + 20
    (command,) = re.findall(r"^dvc exp show .*", (ROOT / "README.md").read_text(), re.MULTILINE)
    table = call(folder, *shlex.split(command, comments=True)).splitlines()
    assert {"fid", "ssim", "train.rank"} <= {*table[1].split()} and len(table[1].split()) <= 12
    assert max(map(len, table)) <= 160


def stale(folder: Path) -> set[str]:
    """The stages of which an input has changed, not those that follow from them."""
    said = call(folder, "dvc", "status", "--json")
    call(folder, "git", "checkout", "-q", ".")
    return {*json.loads(re.search(r"^\{.*\}$", said, re.MULTILINE)[0])}


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"generate": {"prompt": "a lesion, macro"}}, {"generate", "draw_base", "report"}),
        ({"train": {"seed": 2}}, {"train_lora", "generate", "draw_base", "report"}),
        ({"generate": {"seed": 2}}, {"generate", "draw_base", "report"}),
    ],
    ids=["a prompt", "a seed of training", "a seed of drawing"],
)
def test_a_parameter_is_read_where_it_counts(repository, changes, first):
    set_params(repository, changes)
    assert stale(repository) == first


def test_editing_what_draws_a_sheet_trains_nothing_again(repository):
    sheets = repository / "src/mpox/measures/sheets.py"
    sheets.write_text(sheets.read_text() + "# edited\n")
    assert stale(repository) == {"evaluate"}


def test_the_page_is_made_again_by_what_it_shows_and_nothing_else_is(repository):
    page = repository / "data/report/index.html"
    first = page.read_bytes()
    assert b"5 synthetic pictures are held against" in first and b"shows patients" in first
    style = repository / "src/mpox/report/templates/style.css"
    style.write_text(style.read_text() + "/* edited */\n")
    assert ran(call(repository, "dvc", "repro")) == ["report"]
    assert page.read_bytes() == first.replace(b"</style>", b"/* edited */\n</style>", 1)
    call(repository, "git", "checkout", "-q", ".")


def test_what_is_shared_is_the_lora_that_was_measured(repository, tmp_path):
    """Of so few patients no attack says that nobody is given away: the flag is needed."""

    def export(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "stages.export", "models/lora", *words]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
        return done.returncode, done.stderr

    out = str(tmp_path / "shared")
    assert export(out, "--accept-risk") == (0, "")
    assert "membership attack" in (tmp_path / "shared/README.md").read_text()
    weights = repository / "models/lora/pytorch_lora_weights.safetensors"
    kept = weights.read_bytes()
    weights.unlink()  # a link into DVC's cache
    weights.write_bytes(kept[:-1] + b"x")
    code, said = export(str(tmp_path / "other"), "--accept-risk")
    weights.write_bytes(kept)
    assert code == 1 and "another LoRA was measured" in said and "Traceback" not in said


def test_dvcs_own_views_have_the_pictures(repository):
    """Of two revisions side by side."""
    shown = json.loads(call(repository, "dvc", "plots", "diff", "--json", "HEAD").splitlines()[-1])
    pictures = {name: each for name, each in shown["data"].items() if each[0]["type"] == "image"}
    steps = [f"models/lora/validation/step-{step:06d}/00000.png" for step in (0, 4)]
    sheets = [f"data/evaluation/{name}.jpg" for name in ("contact_sheet", "suspicious_pairs")]
    assert {*steps, *sheets} == set(pictures)
    revisions = [each["revisions"] for each in pictures["data/evaluation/contact_sheet.jpg"]]
    assert sorted(revisions) == [["HEAD"], ["workspace"]]
    assert call(repository, "git", "status", "--porcelain") == ""  # what it wrote is ignored


def experiments(folder: Path) -> list[str]:
    refs = call(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps")
    return re.findall(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/.+", refs)


def test_no_photo_is_reachable_in_git(finished, tmp_path):
    """In any ref, after dvc repro and experiments here, elsewhere, from the queue, and refused.

    The experiments run only the stage that reads photos: the others take longer.
    """
    copy = shutil.copytree(finished[0], tmp_path / "copy", symlinks=True)
    call(copy, "git", "checkout", "-q", ".")
    expected = len(experiments(copy)) + 4

    def experiment(*words: str) -> None:
        call(copy, "dvc", "exp", "run", *words)
        call(copy, "git", "checkout", "-q", ".")

    copied = ("-C", "data/photos", "-C", "data/controls")
    experiment("--temp", *copied, "-S", "seed=4", "prepare")
    # For the experiments that run elsewhere without a copy.
    call(copy, "dvc", "add", "data/photos", "data/controls")
    commit(copy)
    experiment("-S", "seed=1", "prepare")
    experiment("--temp", "-S", "seed=2", "prepare")
    experiment("--queue", "-S", "seed=3", "prepare")
    # Its worker would hold a pipe open until it has been idle for long.
    call(copy, "bash", "-c", "dvc queue start > /dev/null 2>&1")
    deadline = time.monotonic() + 120
    while len(experiments(copy)) < expected and time.monotonic() < deadline:
        time.sleep(1)
    call(copy, "dvc", "queue", "stop")
    assert len(experiments(copy)) == expected

    shutil.copytree(copy / "data/photos", copy / "lesions")
    with pytest.raises(AssertionError, match="lesions: git neither holds nor ignores lesions/"):
        experiment("-S", "data.source=lesions", "prepare")

    first = call(copy, "git", "rev-list", "--max-parents=0", "HEAD").strip()  # with the phantoms
    objects = call(copy, "git", "rev-list", "--objects", "--all", f"^{first}")
    assert "metrics/prepare.json" in objects
    assert not re.search(r"\.(jpe?g|png)$", objects, re.MULTILINE)


def test_a_patient_who_withdraws_is_gone_from_workspace_cache_and_remote(finished, tmp_path):
    """By what docs/photos.md says; only the stages run that store photos one by one."""
    copy = shutil.copytree(finished[0], tmp_path / "copy", symlinks=True)
    call(copy, "git", "checkout", "-q", ".")
    store = str(tmp_path / "store")
    call(copy, "dvc", "remote", "add", "--local", "--default", "store", store)
    call(copy, "dvc", "push")

    def digests() -> set[str]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {hashlib.md5(path.read_bytes()).hexdigest() for path in files}

    photos = [photo for photo in (copy / "data/photos").glob("*.jpg") if "_p003_" in photo.name]
    with (copy / "data/prepared/manifest.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if "_p003_" in row["source"]]
    prepared = [copy / "data/prepared" / row["file"] for row in rows]
    gone = {hashlib.md5(path.read_bytes()).hexdigest() for path in [*photos, *prepared]}
    assert len(gone) == 8 and gone <= digests()
    for photo in photos:
        photo.unlink()
    named = (copy / "data/photos/metadata.csv").read_text().splitlines(keepends=True)
    left = "".join(line for line in named if "_p003_" not in line)
    (copy / "data/photos/metadata.csv").write_text(left)
    call(copy, "dvc", "repro", "augment")
    assert gone & digests()  # in the cache and in the remote
    call(copy, "dvc", "gc", "--workspace", "--cloud", "--force")
    assert not gone & digests()
    assert "p003" not in (copy / "data/prepared/manifest.csv").read_text()


def test_results_are_shared_through_a_remote(repository, tmp_path):
    call(
        repository, "dvc", "remote", "add", "--local", "--default", "store", str(tmp_path / "store")
    )
    call(repository, "dvc", "push")

    def clone(name: str) -> Path:
        call(tmp_path, "git", "clone", "-q", str(repository), name)
        local = ".dvc/config.local"
        shutil.copy(repository / local, tmp_path / name / local)
        return tmp_path / name

    colleague = clone("colleague")
    for given in ("data/photos", "data/controls"):
        shutil.copytree(repository / given, colleague / given)
    call(colleague, "dvc", "pull", "dvc.yaml")
    assert "up to date" in call(colleague, "dvc", "repro")

    # Who wants other pictures needs the LoRA and no photo.
    stranger = clone("stranger")
    set_params(stranger, {"generate": {"prompt": "a lesion, macro"}})
    said = call(stranger, "dvc", "repro", "--pull", "--allow-missing", "generate")
    assert ran(said) == ["generate"]
    assert not any(
        (stranger / "data" / name).exists()
        for name in ("photos", "controls", "prepared", "prepared_controls", "augmented")
    )


def test_stopped_at_any_moment_it_goes_on_to_the_same_bytes(finished, tmp_path):
    """Once, in the stage that trains, and as far; `make crash` does it thirty times, everywhere."""
    repository, durations = finished
    copy = shutil.copytree(repository, tmp_path / "copy", symlinks=True)
    call(copy, "git", "checkout", "-q", ".")
    for said, identical in crash.stop_and_go(copy, durations, ["train_lora"], 0, "train_lora"):
        assert identical, said


def test_a_wrong_parameter_stops_at_once(repository):
    set_params(repository, {"train": {"rank": "eight"}})
    failed = subprocess.run(
        [sys.executable, "-m", "stages.prepare", "elsewhere", "others", "elsewhere.json"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    call(repository, "git", "checkout", "-q", ".")
    assert failed.returncode == 1
    assert "params.yaml: train.rank: got 'eight'" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (repository / "elsewhere").exists()


@pytest.mark.skipif("MPOX_TEST_PHOTOS" not in os.environ, reason="MPOX_TEST_PHOTOS names no folder")
def test_photos_from_elsewhere(tmp_path):
    """Real photos of unknown patients through every stage that looks at a photo itself.

    Their variants stand in for synthetic pictures, which look no different to what follows.
    """
    folder = checkout(tmp_path)
    photos = os.environ["MPOX_TEST_PHOTOS"]
    source = {"source": photos, "patients": "unknown"}
    source["controls"] = "data/none"
    few = {"train": TINY["train"] | {"instance_prompt": "a lesion"}, "augment": TINY["augment"]}
    set_params(folder, {**few, "data": source, "evaluate": {"max_pictures": 50}})
    call(folder, "dvc", "repro", "augment")
    sets = ("data/prepared/test", "data/augmented", "found.json", "found", "data/prepared/train")
    call(folder, sys.executable, "-m", "stages.evaluate", *sets)
    metrics = Metrics.read(folder / "found.json")
    assert math.isfinite(metrics["fid"].value) and metrics.identity["n_test"] == 50
    assert photos not in (folder / "metrics/prepare.json").read_text()
