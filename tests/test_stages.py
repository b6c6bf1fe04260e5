"""The whole pipeline through DVC, with tiny parameters, in a fresh copy of the repository."""

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

import stages
from mpox.core import images, listing, table
from mpox.statistics import tone
from mpox.statistics.estimate import ALL, Metrics

ROOT = Path(__file__).parents[1]
SITES = ("arm", "leg")  # of a column beside the tone that no line of code knows
TINY = {
    "data": {"source": "data/photos", "controls": "data/controls", "columns": ["site"]},
    "augment": {"copies": 1},
    "train": {
        "rank": 2, "max_steps": 2, "warmup_steps": 1, "batch_size": 2, "validation_steps": 2,
        "validation_images": 1, "val_loss_steps": 1, "checkpointing_steps": 2,
        "prior_preservation": {"batch_size": 2},
        "preview": {"steps": 1, "batch_size": 1},
        "select": "last",  # after so few steps the best checkpoint may be none
        "instance_prompt": "a lesion, {tone} skin, {site}",
    },
    "generate": {"num_images": 5, "steps": 1, "batch_size": 3},
    "evaluate": {"max_pictures": 8, "by": ["tone", "site"]},
}  # fmt: skip
PHOTOS, CONTROLS = 12, 6  # patients in all, and of each look-alike; two pictures each

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


def started(output: str) -> list[str]:
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
    copy_photos(ROOT / "data/phantom/photos", photos, PHOTOS)
    names = sorted(path.name for path in photos.iterdir())
    table.write(photos, ["site"], {name: [SITES[k % 2]] for k, name in enumerate(names)})
    for kind in (ROOT / "data/phantom/controls").iterdir():
        copy_photos(kind, folder / "data/controls" / kind.name, CONTROLS)
    return folder


def copy_photos(source: Path, folder: Path, patients: int) -> None:
    """Two photos of each of the first patients."""
    folder.mkdir(parents=True)
    numbers = sorted({re.search(r"_(p\d+)_", path.name)[1] for path in source.glob("*.jpg")})
    for number in numbers[:patients]:
        for photo in sorted(source.glob(f"*_{number}_*.jpg"))[:2]:
            shutil.copy(photo, folder)


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
    hostile = {
        "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
    }  # fmt: skip
    sums = [call(ROOT, sys.executable, "-c", SUMS, **each) for each in ({}, hostile)]
    assert sums[0] == sums[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, crash.Finished]:
    """A repository after `dvc repro`."""
    folder = tiny(tmp_path_factory.mktemp("repository"))
    run = crash.run(folder)
    commit(folder)
    return folder, run


@pytest.fixture(scope="module")
def repository(finished) -> Path:
    return finished[0]


def test_all_stages_ran_and_left_nothing_behind(finished):
    repository, run = finished
    assert list(run.durations) == [
        "prepare", "augment", "draw_class", "train_lora", "generate", "draw_base", "evaluate",
        "utility", "privacy", "report",
    ]  # fmt: skip
    for noise in (*stages.NOISE.values(), "open an issue", "github.com", "Traceback"):
        assert noise not in run.output
    assert list((repository / ".checkpoints").iterdir()) == []
    assert call(repository, "git", "status", "--porcelain") == ""
    assert "up to date" in call(repository, "dvc", "repro")


def test_metrics_are_finite(repository):
    metrics = Metrics.read(repository / "metrics/evaluation.json")
    for column, values in (("tone", tone.BANDS), ("site", SITES)):
        assert sum(metrics["n_synthetic", f"{column}: {value}"].value for value in values) == 5
    assert {"fid", "kid", "ssim", "copy_rate"} <= set(metrics.headlines)
    assert all(math.isfinite(each.value) for each in metrics.estimates[ALL].values())
    assert metrics.identity["n_synthetic"] == 5


def test_the_trial_judges_every_arm(repository):
    trial = Metrics.read(repository / "metrics/utility.json")
    assert trial.ran and trial.identity["n_synthetic"] == 5
    arms = {name: arm["auroc"] for name, arm in trial.estimates.items() if "n_mpox" in arm}
    assert {*arms} == {
        "real", "real_encoded", "augmented", trial.identity["main"], "synthetic", "placebo",
    }  # fmt: skip
    assert all(0 <= auroc.value <= 1 for auroc in arms.values())
    with (repository / "data/utility/arms.csv").open() as stream:
        versions = {(row["arm"], row["version"]) for row in csv.DictReader(stream)}
    assert {("real", "plain"), ("real", "encoded")} <= versions


def test_the_lora_and_the_base_draw_other_pictures_by_the_same_prompts_and_seeds(repository):
    synthetic, base = (repository / "data" / name for name in ("synthetic", "base"))
    pictures, others = listing.find(synthetic)
    assert [path.name for path in pictures] == [f"{i:05d}.png" for i in range(5)]
    assert [path.name for path in others] == ["metadata.csv"]
    assert table.read(synthetic).rows == table.read(base).rows
    for path in pictures:
        picture = images.read(path)
        assert picture.shape == (64, 64, 3)
        assert (picture != images.read(base / path.name)).any()


def test_hugging_face_opens_every_folder_of_pictures(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    for name, columns in (
        ("prepared", {"patient", "group", "tone", "site"}),
        ("augmented", {"source", "variant", "patient", "group", "tone", "site"}),
        ("synthetic", {"text", "negative_prompt", "seed", "tone", "site"}),
    ):
        folder = str(repository / "data" / name)
        opened = load_dataset("imagefolder", data_dir=folder, cache_dir=str(tmp_path / "cache"))
        assert columns <= set(opened["train"].column_names), name
        pictures, _ = listing.find(Path(folder, "train") if name == "prepared" else Path(folder))
        assert opened["train"].num_rows == len(pictures)
    drawn = opened["train"]
    assert drawn["seed"][0] > 2**32 and drawn["text"][0].startswith("clinical")
    # In the shares of the training photos, and in the words of the prompt.
    assert {*drawn["site"]} == {*SITES}
    for text, word in zip(drawn["text"], drawn["tone"], strict=True):
        assert f", {word} skin" in text


def test_the_lock_of_a_frozen_stage_is_no_input_of_another(repository):
    """`dvc commit` renews it after an edit of the code; nothing is trained again for that."""
    call(repository, "dvc", "commit", "-f")  # tests/test_lock.py checks the committed locks
    call(repository, "git", "commit", "-qam", "locks", "--allow-empty")
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
    output = call(repository, "dvc", "exp", "run", "-S", "train.rank=16", "evaluate")
    assert started(output) == ["train_lora", "generate", "evaluate"]
    assert outputs(repository)["models/lora"] != first["models/lora"]
    assert outputs(repository)["data/base"] == first["data/base"]
    assert "train.rank" in call(repository, "dvc", "params", "diff")
    check_tables(repository)

    back = call(repository, "dvc", "exp", "run", "-S", "train.rank=2", "evaluate")
    assert started(back) == []
    assert outputs(repository) == first
    call(repository, "git", "checkout", "-q", ".")


def check_tables(folder: Path) -> None:
    """DVC's tables of an experiment are short; README's command makes one of 160 columns."""
    _, *changes = call(folder, "dvc", "metrics", "diff").splitlines()
    assert {"fid", "ssim"} <= {row.split()[1] for row in changes} and len(changes) <= 20
    shown = call(folder, "dvc", "metrics", "show").splitlines()[0].split()
    assert shown[0] == "Path" and {"fid", "ssim"} <= {*shown} and len(shown) <= 1 + 20
    (command,) = re.findall(r"^dvc exp show .*", (ROOT / "README.md").read_text(), re.MULTILINE)
    lines = call(folder, *shlex.split(command, comments=True)).splitlines()
    assert {"fid", "ssim", "train.rank"} <= {*lines[1].split()} and len(lines[1].split()) <= 12
    assert max(map(len, lines)) <= 160


def stale(folder: Path) -> set[str]:
    """The stages with a changed input, without those that follow; the change is undone."""
    output = call(folder, "dvc", "status", "--json")
    call(folder, "git", "checkout", "-q", ".")
    return {*json.loads(re.search(r"^\{.*\}$", output, re.MULTILINE)[0])}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"generate": {"prompt": "a lesion, macro"}}, {"generate", "draw_base", "report"}),
        ({"train": {"seed": 2}}, {"train_lora", "generate", "draw_base", "report"}),
        ({"generate": {"seed": 2}}, {"generate", "draw_base", "report"}),
    ],
    ids=["a prompt", "the seed of training", "the seed of drawing"],
)
def test_a_parameter_changes_the_stages_that_read_it(repository, changes, expected):
    set_params(repository, changes)
    assert stale(repository) == expected


def test_editing_a_contact_sheet_trains_nothing_again(repository):
    sheets = repository / "src/mpox/measures/sheets.py"
    sheets.write_text(sheets.read_text() + "# edited\n")
    assert stale(repository) == {"evaluate"}


def test_editing_the_style_makes_the_page_again_and_nothing_else(repository):
    page = repository / "data/report/index.html"
    first = page.read_bytes()
    assert b"5 synthetic pictures" in first and b"shows patients" in first
    style = repository / "src/mpox/report/templates/style.css"
    style.write_text(style.read_text() + "/* edited */\n")
    assert started(call(repository, "dvc", "repro")) == ["report"]
    assert page.read_bytes() == first.replace(b"</style>", b"/* edited */\n</style>", 1)
    call(repository, "git", "checkout", "-q", ".")


def test_what_is_shared_is_the_lora_that_was_measured(repository, tmp_path):
    """So few patients prove nothing about privacy, so `export` asks for --accept-risk."""

    def export(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "stages.export", "models/lora", *words]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
        return done.returncode, done.stderr

    out = str(tmp_path / "shared")
    assert export(out, "--accept-risk") == (0, "")
    assert "membership attack" in (tmp_path / "shared/README.md").read_text()
    weights = repository / "models/lora/pytorch_lora_weights.safetensors"
    content = weights.read_bytes()
    weights.unlink()  # a link into DVC's cache
    weights.write_bytes(content[:-1] + b"x")
    code, message = export(str(tmp_path / "other"), "--accept-risk")
    weights.write_bytes(content)
    assert code == 1 and "another LoRA was measured" in message and "Traceback" not in message


def test_dvc_plots_diff_shows_the_pictures_of_two_revisions(repository):
    plots = json.loads(call(repository, "dvc", "plots", "diff", "--json", "HEAD").splitlines()[-1])
    pictures = {name: each for name, each in plots["data"].items() if each[0]["type"] == "image"}
    steps = [f"models/lora/validation/step-{step:06d}/00000.png" for step in (0, 2)]
    sheets = [f"data/evaluation/{name}.jpg" for name in ("contact_sheet", "suspicious_pairs")]
    assert {*steps, *sheets} == set(pictures)
    revisions = [each["revisions"] for each in pictures["data/evaluation/contact_sheet.jpg"]]
    assert sorted(revisions) == [["HEAD"], ["workspace"]]
    assert call(repository, "git", "status", "--porcelain") == ""  # what it wrote is ignored


def experiments(folder: Path) -> list[str]:
    refs = call(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps")
    return re.findall(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/.+", refs)


def test_no_photo_is_in_git(finished, tmp_path):
    """After experiments in a copy and from the queue, and after a rejected one.

    The experiments run only `prepare`, the stage that reads photos.
    """
    copy = shutil.copytree(finished[0], tmp_path / "copy", symlinks=True)
    call(copy, "git", "checkout", "-q", ".")
    expected = len(experiments(copy)) + 2

    def experiment(*words: str) -> None:
        call(copy, "dvc", "exp", "run", *words)
        call(copy, "git", "checkout", "-q", ".")

    copied = ("-C", "data/photos", "-C", "data/controls")
    experiment("--temp", *copied, "-S", "seed=4", "prepare")
    call(copy, "dvc", "add", "data/photos", "data/controls")  # for the queue, which copies nothing
    commit(copy)
    experiment("--queue", "-S", "seed=3", "prepare")
    # The queue's worker would keep a pipe open until it has been idle for long.
    call(copy, "bash", "-c", "dvc queue start > /dev/null 2>&1")
    deadline = time.monotonic() + 120
    while len(experiments(copy)) < expected and time.monotonic() < deadline:
        time.sleep(1)
    call(copy, "dvc", "queue", "stop")
    assert len(experiments(copy)) == expected

    shutil.copytree(copy / "data/photos", copy / "lesions")
    (copy / "lesions/names.csv").write_text("the names\n")
    with pytest.raises(AssertionError, match="lesions: git neither tracks nor ignores lesions/"):
        experiment("-S", "data.source=lesions", "prepare")
    name = call(copy, "git", "hash-object", "lesions/names.csv").strip()
    with pytest.raises(AssertionError, match="Not a valid object name"):  # not even unreachable
        call(copy, "git", "cat-file", "-p", name)

    first = call(copy, "git", "rev-list", "--max-parents=0", "HEAD").strip()  # with the phantoms
    objects = call(copy, "git", "rev-list", "--objects", "--all", f"^{first}")
    assert "metrics/prepare.json" in objects
    assert not re.search(r"\.(jpe?g|png)$", objects, re.MULTILINE)


def test_a_patient_who_withdraws_is_gone_from_workspace_cache_and_remote(finished, tmp_path):
    """By the steps in docs/photos.md; only the stages that store single photos run."""
    copy = shutil.copytree(finished[0], tmp_path / "copy", symlinks=True)
    call(copy, "git", "checkout", "-q", ".")
    store = str(tmp_path / "store")
    call(copy, "dvc", "remote", "add", "--local", "--default", "store", store)
    call(copy, "dvc", "push")

    def digests() -> set[str]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        others = [path for path in files if "phantom" not in path.parts]  # git's copy of the photos
        return {hashlib.md5(path.read_bytes()).hexdigest() for path in others}

    photos = [photo for photo in (copy / "data/photos").glob("*.jpg") if "_p003_" in photo.name]
    with (copy / "data/prepared/manifest.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if "_p003_" in row["source"]]
    prepared = [copy / "data/prepared" / row["file"] for row in rows]
    withdrawn = {hashlib.md5(path.read_bytes()).hexdigest() for path in [*photos, *prepared]}
    assert len(withdrawn) == 4 and withdrawn <= digests()
    for photo in photos:
        photo.unlink()
    rows = (copy / "data/photos/metadata.csv").read_text().splitlines(keepends=True)
    others = "".join(row for row in rows if "_p003_" not in row)
    (copy / "data/photos/metadata.csv").write_text(others)
    call(copy, "dvc", "repro", "augment")
    assert withdrawn & digests()  # in the cache and in the remote
    call(copy, "dvc", "gc", "--workspace", "--cloud", "--force")
    assert not withdrawn & digests()
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
    for folder in ("data/photos", "data/controls"):
        shutil.copytree(repository / folder, colleague / folder)
    call(colleague, "dvc", "pull", "dvc.yaml")
    assert "up to date" in call(colleague, "dvc", "repro")

    # Drawing other pictures takes the LoRA and no photo.
    stranger = clone("stranger")
    set_params(stranger, {"generate": {"prompt": "a lesion, macro"}})
    output = call(stranger, "dvc", "repro", "--pull", "--allow-missing", "generate")
    assert started(output) == ["generate"]
    assert not any(
        (stranger / "data" / name).exists()
        for name in ("photos", "controls", "prepared", "prepared_controls", "augmented")
    )


def test_a_run_that_was_stopped_resumes_to_the_same_bytes(finished, tmp_path):
    """Once, in the training, and no further; `make crash` does it thirty times, in every stage."""
    repository, run = finished
    copy = shutil.copytree(repository, tmp_path / "copy", symlinks=True)
    call(copy, "git", "checkout", "-q", ".")
    stops = crash.stop_and_go(copy, run.durations, ["train_lora"], 0, "train_lora")
    for stop, identical in stops:
        assert identical, stop


@pytest.mark.skipif("MPOX_TEST_PHOTOS" not in os.environ, reason="MPOX_TEST_PHOTOS names no folder")
def test_photos_from_elsewhere(tmp_path):
    """Real photos of unknown patients through every stage that reads photos.

    Their variants stand in for synthetic pictures, which later stages treat alike.
    """
    folder = checkout(tmp_path)
    photos = os.environ["MPOX_TEST_PHOTOS"]
    source = {"source": photos, "patients": "unknown"}
    source["controls"] = "data/none"
    few = {"train": TINY["train"] | {"instance_prompt": "a lesion"}, "augment": TINY["augment"]}
    set_params(folder, {**few, "data": source, "evaluate": {"max_pictures": 50}})
    call(folder, "dvc", "repro", "augment")
    sets = ("data/prepared/test", "data/augmented", "out.json", "out", "data/prepared/train")
    call(folder, sys.executable, "-m", "stages.evaluate", *sets)
    metrics = Metrics.read(folder / "out.json")
    assert math.isfinite(metrics["fid"].value) and metrics.identity["n_test"] == 50
    assert photos not in (folder / "metrics/prepare.json").read_text()
