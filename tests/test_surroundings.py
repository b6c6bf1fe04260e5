"""A stage where something around it is missing, in the way or hostile."""

import errno
import fcntl
import hashlib
import io
import logging
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from conftest import POINTER, ROOT, UNFETCHED

import stages.weights
from mpox import checks
from mpox.core.errors import InputError

WITHOUT = ("data.controls=none",)  # no photos of other conditions


def call(stage: str, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A stage, of this checkout's code, in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """The code and its parameters alone, in no git repository; one photo, which is never read."""
    monkeypatch.delenv("GIT_DIR", raising=False)  # set where a git hook runs the tests
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mpox_p000_0.jpg").touch()
    shutil.copytree(ROOT / "data/none", tmp_path / "none")
    return tmp_path


def test_a_repository_without_a_commit_stops_the_first_stage(copy):
    """dvclive would otherwise end the third in a traceback."""
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
    done = call("prepare", copy, "data.source=photos", *WITHOUT, "out", "others", "out.json")
    assert done.returncode == 1
    assert done.stderr == (
        "error: this git repository has no commit yet; expected one: git commit\n"
    )


def test_an_output_that_cannot_be_written_is_named(copy):
    (copy / "taken").touch()
    done = call("prepare", copy, "data.source=photos", *WITHOUT, "taken", "others", "out.json")
    assert done.returncode == 1
    assert done.stderr == "error: taken: is a file; expected a folder, or none yet\n"
    done = call("prepare", copy, "data.source=photos", *WITHOUT, "taken/out", "others", "out.json")
    assert done.returncode == 1
    assert done.stderr == "error: taken/out.partial: Not a directory\n"


def test_too_small_a_gpu_is_no_traceback(copy):
    out_of_memory = (
        "import stages, torch\n"
        "def main(params): raise torch.OutOfMemoryError('CUDA out of memory.')\n"
        "stages.run(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", out_of_memory], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: CUDA out of memory.\nSee docs/scaling.md")


def test_a_file_in_the_photos_place_is_named(copy):
    done = call("prepare", copy, "data.source=params.yaml", *WITHOUT, "out", "others", "out.json")
    assert (done.returncode, done.stderr) == (1, "error: params.yaml: no such folder\n")


INCEPTION = ["evaluate.features=inception_v3", "evaluate.weights=models/features/weights.pth"]


def test_dvc_takes_no_weights_that_it_would_not_see_change(copy, monkeypatch):
    words = ["evaluate.features=dinov2", "evaluate.weights=/shared/dinov2"]
    assert "/shared/dinov2/config.json: no such file" in call("prepare", copy, *words).stderr
    shutil.copy(ROOT / "dvc.yaml", copy)
    monkeypatch.setenv("DVC_STAGE", "prepare")
    said = "error: evaluate.weights: got /shared/dinov2, expected a path below models/features"
    assert call("prepare", copy, *words).stderr.startswith(said)


def test_weights_for_the_last_stage_that_are_not_there_stop_the_first(copy):
    """As under `dvc exp run --temp`, which copies no file that git ignores."""
    done = call(
        "prepare", copy, "out", "others", "out.json", "data.source=photos", *WITHOUT, *INCEPTION
    )
    assert done.returncode == 1
    assert "error: evaluate.weights: models/features/weights.pth: no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copy / "out").exists()


def test_a_page_saved_as_the_weights_stops_the_first_stage(copy):
    file = copy / "models/features/weights.pth"
    file.parent.mkdir(parents=True)
    file.write_text("<html>404</html>")
    done = call(
        "prepare", copy, "out", "others", "out.json", "data.source=photos", *WITHOUT, *INCEPTION
    )
    assert done.returncode == 1
    assert "error: evaluate.weights: models/features/weights.pth: has SHA-256" in done.stderr
    assert not (copy / "out").exists()


@pytest.mark.parametrize(
    ("stage", "asks"), [("prepare", True), ("train_lora", True), ("generate", False)]
)
def test_who_only_draws_needs_no_weights_of_evaluations(stage, asks, copy):
    done = call(stage, copy, *INCEPTION)  # without paths it goes no further than to its usage
    assert done.stderr.startswith("error: evaluate.weights" if asks else "usage: ")


RESNET18 = ["utility.classifier=cnn", "utility.weights=models/features/r.pth"]


@pytest.mark.parametrize(
    ("stage", "asks"), [("prepare", True), ("utility", True), ("evaluate", False)]
)
def test_the_weights_of_the_network_to_be_trained_are_asked_for_first(stage, asks, copy):
    said = (
        "error: utility.weights: models/features/r.pth: no such file; name resnet18 in "
        "utility.download, or save there https://download.pytorch.org/models/resnet18-f37072fd.pth "
        "with SHA-256 f37072fd"
    )
    assert call(stage, copy, *RESNET18).stderr.startswith(said if asks else "usage: ")
    assert call(stage, copy, RESNET18[1]).stderr.startswith("usage: ")  # of no use for linear


def test_a_resolution_that_the_base_cannot_take_stops_the_first_stage(copy):
    for part in ("unet", "vae"):
        (copy / "models/tiny-sd" / part).mkdir(parents=True)
        file = f"models/tiny-sd/{part}/config.json"
        shutil.copy(ROOT / file, copy / file)
    done = call(
        "prepare",
        copy,
        "data.source=photos",
        *WITHOUT,
        "out",
        "others",
        "out.json",
        "resolution=72",
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: resolution: got 72, expected a multiple of 16 for models/tiny-sd\n",
    )
    (copy / "models/tiny-sd/unet/config.json").write_text("[]")
    done = call("prepare", copy, "data.source=photos", *WITHOUT, "out", "others", "out.json")
    assert done.stderr == (
        "error: model.path: models/tiny-sd/unet/config.json cannot be loaded: expected a "
        "network's, with down_block_types\n"
    )


def test_a_base_that_git_lfs_has_not_fetched_stops_the_first_stage(copy):
    file = copy / "models/tiny-sd/unet/diffusion_pytorch_model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(POINTER)
    done = call("prepare", copy, "data.source=photos", *WITHOUT, "out", "others", "out.json")
    assert done.stderr == f"error: model.path: {file.relative_to(copy)}: {UNFETCHED}\n"


# ---------------------------------------------------------------- evaluation's weights, downloaded


CONTENT = b"weights" * 1000


class Published(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/w.pth" else 404)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def published(monkeypatch) -> Iterator[str]:
    """A server in the place of the weights' own."""
    with HTTPServer(("127.0.0.1", 0), Published) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/w.pth"
        publish(monkeypatch, address)
        yield address
        server.shutdown()


def publish(monkeypatch, address: str) -> str:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setitem(checks.PUBLISHED, "inception_v3", (address, sha256))
    return sha256


def test_weights_are_downloaded_whole_and_once(published, tmp_path, monkeypatch):
    file = tmp_path / "inception" / "w.pth"
    stages.weights.main("inception_v3", file)
    assert [path.name for path in file.parent.iterdir()] == ["w.pth"]
    assert file.read_bytes() == CONTENT
    publish(monkeypatch, "http://127.0.0.1:1/w.pth")  # what is there, put by hand too, is kept
    stages.weights.main("inception_v3", file)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # as in a copy that DVC runs in
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    stages.weights.main("inception_v3", Path("inception/w.pth"))
    assert (tmp_path / "copy/inception/w.pth").read_bytes() == CONTENT


def test_a_networks_weights_are_downloaded_to_where_utility_wants_them(
    published, tmp_path, monkeypatch
):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setitem(checks.PUBLISHED, "resnet18", (published, sha256))
    text = (
        (ROOT / "params.yaml").read_text().replace("  classifier: linear ", "  classifier: cnn ", 1)
    )
    for old, new in (
        ("weights:  ", "weights: models/features/r.pth"),
        ("download: []", "download: [resnet18]"),
    ):
        head, section = text.split("utility: ")
        text = f"{head}utility: {section.replace(old, new, 1)}"
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["weights.py", "utility"])
    monkeypatch.delitem(sys.modules, "stages.weights")
    runpy.run_module("stages.weights", None, "__main__")
    assert (tmp_path / "models/features/r.pth").read_bytes() == CONTENT
    monkeypatch.setitem(checks.PUBLISHED, "resnet18", (published, "0" * 64))
    (tmp_path / "models/features/r.pth").unlink()
    with pytest.raises(SystemExit, match=r"^error: utility.weights: http.* is not what was publ"):
        runpy.run_module("stages.weights", None, "__main__")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _: "http://127.0.0.1:1/w.pth", "cannot be downloaded: .*refused"),
        (lambda address: address.replace("/w.", "/x."), "cannot be downloaded: HTTP Error 404"),
        (lambda _: "file:///nowhere/w.pth", "cannot be downloaded: .*No such file"),
    ],
)
def test_weights_that_cannot_be_had_are_said_with_what_to_save_where(
    spoil, reason, published, tmp_path, monkeypatch
):
    address, file = spoil(published), tmp_path / "w.pth"
    sha256 = publish(monkeypatch, address)
    said = f"^evaluate.weights: {address} {reason}.*; download .* with SHA-256 {sha256}, as {file}$"
    with pytest.raises(InputError, match=said):
        stages.weights.main("inception_v3", file)
    assert not list(tmp_path.iterdir())


def test_other_weights_than_the_published_are_not_kept(published, tmp_path, monkeypatch):
    monkeypatch.setitem(checks.PUBLISHED, "inception_v3", (published, "0" * 64))
    with pytest.raises(InputError, match="is not what was published, but has SHA-256 "):
        stages.weights.main("inception_v3", tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())


DOWNLOAD = [*INCEPTION, "evaluate.download=[inception_v3]"]


@pytest.mark.parametrize(
    ("stage", "there", "said"),
    [
        ("prepare", True, "usage: "),
        ("prepare", False, "error: evaluate.weights: http.* cannot be downloaded: .*; elsewhere "),
        ("train_lora", False, "error: evaluate.weights: http.* cannot be downloaded: .*; elsewh"),
        ("generate", False, "usage: "),
        ("evaluate", True, "error: evaluate.weights: models/features/weights.pth: no such file"),
    ],
)
def test_the_first_stage_asks_whether_a_later_one_can_download(stage, there, said, copy, published):
    """So that who has no network need not wait for the training to hear of it."""
    address = published if there else "http://127.0.0.1:1/w.pth"
    code = (
        "import runpy, sys, stages\nfrom mpox.checks import PUBLISHED\n"
        f"PUBLISHED['inception_v3'] = ({address!r}, '')\n"
        f"sys.argv = ['{stage}.py', *{DOWNLOAD}]\n"
        f"runpy.run_module('stages.{stage}', None, '__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1 and re.match(said, done.stderr)
    assert "Traceback" not in done.stderr


LONG = "word " * 100


@pytest.mark.parametrize("stage", ["prepare", "train_lora", "generate", "evaluate"])
@pytest.mark.parametrize("key", ["generate.negative_prompt", "train.validation_prompt"])
def test_a_prompt_too_long_is_said_before_the_training(key, stage, copy):
    """As soon as the base's tokenizer is there."""
    shutil.copytree(ROOT / "models/tiny-sd/tokenizer", copy / "models/tiny-sd/tokenizer")
    done = call(stage, copy, f"{key}={LONG}")  # without paths it goes no further than to its usage
    concerned = stage in (("prepare", "train_lora") + (("generate",) if "generate" in key else ()))
    said = rf"error: {key}: got \d+ tokens, expected at most 77: 'word" if concerned else "usage: "
    assert done.returncode == 1 and re.match(said, done.stderr)
    assert "Traceback" not in done.stderr


def test_without_a_tokenizer_the_prompt_waits_and_a_damaged_one_is_named(copy):
    assert call("prepare", copy, f"generate.prompt={LONG}").stderr.startswith("usage: ")
    folder = copy / "models/tiny-sd/tokenizer"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("3")
    done = call("prepare", copy)
    assert done.stderr.startswith("error: model.path: models/tiny-sd/tokenizer cannot be loaded: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "key", "asks"),
    [
        ("prepare", "generate.precision", True),
        ("train_lora", "generate.precision", True),
        ("generate", "train.precision", False),
        ("evaluate", "generate.precision", False),
    ],
)
def test_a_precision_that_needs_a_gpu_is_said_before_the_training(
    stage, key, asks, copy, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = [f"{key}=fp16", "train.target_modules=attention"]
    done = call(stage, copy, *words)  # without paths it goes no further than to its usage
    said = f"error: {key}: got fp16, which needs a GPU; expected fp32 or bf16\n"
    assert done.stderr == said if asks else done.stderr.startswith("usage: ")


class Hostile(BaseHTTPRequestHandler):
    """A proxy that wants a password, and a server that hangs up."""

    def do_CONNECT(self):
        self.send_error(407)

    def do_GET(self):
        self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("variable", "address", "reason"),
    [
        ("HTTPS_PROXY", None, "407"),
        ("HF_ENDPOINT", None, "disconnected"),
        ("HF_ENDPOINT", "http://127.0.0.1:1", "refused"),
    ],
)
def test_a_download_that_fails_says_what_to_fetch_and_where_to_put_it(
    variable, address, reason, hostile, tmp_path
):
    words, revision = ["owner/model", str(tmp_path)], "0123abc" + 33 * "0"
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["model"]["download"] = [revision]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    code = (
        "import runpy, time; time.sleep = id; runpy.run_module('stages.download', None, '__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],  # which does not wait between its attempts
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "", variable: address or hostile},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert reason in done.stderr
    for said in (
        *words,
        revision,
        "error: owner/model could not",
        "unet/diffusion_pytorch_model.safetensors",
    ):
        assert said in done.stderr


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EAGAIN, "another run with the same"),
        (errno.EACCES, "another run with the same"),
        (errno.ENOLCK, r"cannot be locked \(No locks available\)"),
    ],
)
def test_a_share_without_locks_is_no_other_run(number, said, tmp_path, monkeypatch):
    from mpox.model import checkpoints

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(InputError, match=f"{tmp_path}: {said}"):
        checkpoints._lock(tmp_path)


class Bomb:
    """Unpickled, it leaves a mark; a real one would do worse."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_hostile_resume_point_is_never_run(tmp_path):
    import torch

    from mpox.model import checkpoints

    mark, file = tmp_path / "executed", tmp_path / "state.pt"
    checkpoints.save({"now": Bomb(mark)}, file)
    with pytest.raises(InputError, match=f"{file}: Weights only load failed.*; remove the file"):
        checkpoints.load(file)
    assert not mark.exists()
    torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=False)
    assert mark.exists()


@pytest.mark.slow
def test_a_stage_is_quiet_of_what_tells_a_user_nothing(copy, small, tiny_sd, tmp_path):
    """But not of the rest of what these loggers say."""
    from diffusers import UNet2DConditionModel

    from mpox.model import lora

    unet = UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet")
    lora.add(unet, small.train, 0)
    lora.save(unet, tmp_path / "lora")
    words = ["resolution=16", "generate.num_images=4", "generate.steps=2", "generate.prompt=skin"]
    words += ["generate.fields=[]", "generate.signal_leak=none"]  # such a LoRA says of no photos
    done = call("generate", copy, "lora", "drawn", f"model.path={tiny_sd}", *words)
    assert done.returncode == 0 and len(list((copy / "drawn").glob("*.png"))) == 4
    for noise in ("open an issue", "github.com", "kernels", "gemm_4bit_forward"):
        assert noise not in done.stderr


def test_only_noise_is_filtered():
    for name, said in stages.NOISE.items():
        logger = logging.getLogger(name)
        handled = [logger.filter(logging.makeLogRecord({"msg": text})) for text in (said, "else")]
        assert [bool(record) for record in handled] == [False, True]
