"""Stages whose surroundings are incomplete, in the way or hostile."""

import errno
import fcntl
import hashlib
import io
import logging
import os
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from conftest import POINTER, ROOT, UNFETCHED

import stages.prepare
import stages.weights
from mpox import checks, params
from mpox.core.errors import InputError
from mpox.model import checkpoints
from stages import guards


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory: a parameter file and a photo, in no git repository."""
    monkeypatch.delenv("GIT_DIR", raising=False)  # set where a git hook runs the tests
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/mpox_p000_0.jpg").touch()
    shutil.copytree(ROOT / "data/none", tmp_path / "none")
    return tmp_path


def parameters(*changes: str) -> params.Params:
    values = dict(change.split("=", 1) for change in changes)
    return params.read(Path("params.yaml"), params.Params, values)


Refusal = Callable[..., str]


@pytest.fixture
def refusal(folder, monkeypatch) -> Refusal:
    """A function: the message by which a stage's guards reject `key=value` …, or an empty one."""

    def check(stage: str, *changes: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{stage}.py"])
        try:
            guards.check(parameters(*changes))
        except InputError as error:
            return str(error)
        return ""

    return check


# ---------------------------------------------------------------- one process, from start to end


def test_a_stage_asks_its_guards_before_it_works(folder):
    """The other stages start in the same way: tests/test_pipeline.py."""
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare", "out", "others", "out.json", "data.source=photos"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "error: this git repository has no commit yet; make one: git commit\n"
    assert not (folder / "out").exists()


def out_of_memory() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory.")


def prepare(source: str, out: str) -> Callable[[], None]:
    changes = (f"data.source={source}", "data.controls=none")
    return lambda: stages.prepare.main(
        parameters(*changes), Path(out), Path("others"), Path("out.json")
    )


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (out_of_memory, r"CUDA out of memory\.\nSee docs/\w+\.md for what needs less memory\."),
        (prepare("params.yaml", "out"), "params.yaml: no such folder"),
        (prepare("photos", "params.yaml"), "params.yaml: is a file; expected a folder, or .*"),
        (prepare("photos", "params.yaml/out"), "params.yaml/out.partial: Not a directory"),
    ],
)
def test_a_users_error_ends_a_stage_with_one_message(work, message, folder):
    with pytest.raises(SystemExit, match=f"^error: {message}$"), stages.plain_errors():
        work()


# ---------------------------------------------------------------- guards: weights, base, prompts


FILE = "models/features/weights.pth"
INCEPTION = ("evaluate.features=inception_v3", f"evaluate.weights={FILE}")
RESNET18 = ("utility.classifier=cnn", f"utility.weights={FILE}")


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("prepare", INCEPTION, f"evaluate.weights: {FILE}: no such file; add inception_v3 to"),
        ("train_lora", INCEPTION, "evaluate.weights: "),
        ("generate", INCEPTION, ""),
        ("prepare", RESNET18, f"utility.weights: {FILE}: no such file; add resnet18 to"),
        ("utility", RESNET18, "utility.weights: "),
        ("evaluate", RESNET18, ""),
        ("prepare", RESNET18[1:], ""),  # a linear classifier needs none
    ],
)
def test_missing_weights_stop_each_stage_before_the_one_that_needs_them(
    stage, changes, message, refusal
):
    """As under `dvc exp run --temp`, which copies no file that git ignores."""
    assert refusal(stage, *changes).startswith(message)
    assert bool(refusal(stage, *changes)) == bool(message)


def test_a_web_page_saved_as_the_weights_stops_the_first_stage(folder, refusal):
    (folder / "models/features").mkdir(parents=True)
    (folder / FILE).write_text("<html>404</html>")
    assert refusal("prepare", *INCEPTION).startswith(f"evaluate.weights: {FILE}: has SHA-256")


def test_dvc_takes_no_weights_whose_change_it_would_not_see(refusal, monkeypatch):
    changes = ("evaluate.features=dinov2", "evaluate.weights=/shared/dinov2")
    assert "/shared/dinov2/config.json: no such file" in refusal("prepare", *changes)
    monkeypatch.setenv("DVC_STAGE", "prepare")
    message = "evaluate.weights: got /shared/dinov2, expected a path below models/features"
    assert refusal("prepare", *changes).startswith(message)


def test_a_resolution_that_the_base_cannot_take_stops_the_first_stage(folder, refusal):
    for part in ("unet", "vae"):
        (folder / "models/tiny-sd" / part).mkdir(parents=True)
        file = f"models/tiny-sd/{part}/config.json"
        shutil.copy(ROOT / file, folder / file)
    message = "resolution: got 72, expected a multiple of 16 for models/tiny-sd"
    assert refusal("prepare", "resolution=72") == message
    (folder / "models/tiny-sd/unet/config.json").write_text("[]")
    message = "model.path: models/tiny-sd/unet/config.json cannot be loaded: expected a network's"
    assert refusal("prepare").startswith(message)


def test_a_base_that_git_lfs_has_not_fetched_stops_the_first_stage(folder, refusal):
    file = Path("models/tiny-sd/unet/diffusion_pytorch_model.safetensors")
    file.parent.mkdir(parents=True)
    file.write_bytes(POINTER)
    assert refusal("prepare") == f"model.path: {file}: {UNFETCHED}"


LONG = "word " * 100


@pytest.mark.parametrize(
    ("key", "stages"),
    [
        ("generate.negative_prompt", {"prepare", "train_lora", "generate"}),
        ("train.validation_prompt", {"prepare", "train_lora"}),
    ],
)
def test_too_long_a_prompt_stops_every_stage_up_to_the_one_that_uses_it(
    key, stages, folder, refusal
):
    assert not refusal("prepare", f"{key}={LONG}")  # without a tokenizer nothing is counted yet
    shutil.copytree(ROOT / "models/tiny-sd/tokenizer", folder / "models/tiny-sd/tokenizer")
    for stage in ("prepare", "train_lora", "generate", "evaluate"):
        message = refusal(stage, f"{key}={LONG}")
        assert message.startswith(f"{key}: got ") == (stage in stages), stage
        assert ("expected at most 77" in message) == bool(message)


def test_a_damaged_tokenizer_is_named(folder, refusal):
    (folder / "models/tiny-sd/tokenizer").mkdir(parents=True)
    (folder / "models/tiny-sd/tokenizer/tokenizer.json").write_text("3")
    message = "model.path: models/tiny-sd/tokenizer cannot be loaded: "
    assert refusal("prepare").startswith(message)


@pytest.mark.parametrize(
    ("stage", "key", "refused"),
    [
        ("prepare", "generate.precision", True),
        ("train_lora", "draw_class.precision", True),
        ("generate", "train.precision", False),
        ("evaluate", "generate.precision", False),
    ],
)
def test_a_precision_that_needs_a_gpu_stops_the_first_stage(
    stage, key, refused, refusal, monkeypatch
):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = f"{key}: got fp16, which needs a GPU; expected fp32 or bf16"
    changes = (f"{key}=fp16", "train.target_modules=attention")
    assert refusal(stage, *changes) == (message if refused else "")


# ---------------------------------------------------------------- downloads


CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:1/w.pth"


class Published(BaseHTTPRequestHandler):
    """The weights' own server; as a proxy it wants a password."""

    def do_GET(self):
        self.send_response(200 if self.path == "/w.pth" else 404)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def do_CONNECT(self):
        self.send_error(407)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Published) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def publish(server, monkeypatch) -> Callable[..., str]:
    """A function that sets where both networks' weights are published, with which SHA-256."""

    def set_source(address: str = f"{server}/w.pth", sha256: str = SHA256) -> str:
        for network in ("inception_v3", "resnet18"):
            monkeypatch.setitem(checks.PUBLISHED, network, (address, sha256))
        return address

    set_source()
    return set_source


def test_weights_are_downloaded_whole_and_once(publish, tmp_path, monkeypatch):
    file = tmp_path / "inception" / "w.pth"
    stages.weights.main("inception_v3", file)
    assert [path.name for path in file.parent.iterdir()] == ["w.pth"]
    assert file.read_bytes() == CONTENT
    publish(NOWHERE)  # an existing file, put there by hand too, is kept
    stages.weights.main("inception_v3", file)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # as in a copy in which DVC runs
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    stages.weights.main("inception_v3", Path("inception/w.pth"))
    assert (tmp_path / "copy/inception/w.pth").read_bytes() == CONTENT


def test_the_command_downloads_a_networks_weights_to_where_utility_expects_them(
    publish, folder, monkeypatch
):
    content = yaml.safe_load((folder / "params.yaml").read_text())
    content["utility"] |= {"classifier": "cnn", "weights": FILE, "download": ["resnet18"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(sys, "argv", ["weights.py", "utility"])
    monkeypatch.delitem(sys.modules, "stages.weights")
    runpy.run_module("stages.weights", None, "__main__")
    assert (folder / FILE).read_bytes() == CONTENT
    (folder / FILE).unlink()
    publish(sha256="0" * 64)
    with pytest.raises(SystemExit, match=r"^error: utility.weights: http.* is not what was publ"):
        runpy.run_module("stages.weights", None, "__main__")
    assert not (folder / FILE).exists()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (NOWHERE, "cannot be downloaded: .*refused"),
        ("{server}/x.pth", "cannot be downloaded: HTTP Error 404"),
        ("file:///nowhere/w.pth", "cannot be downloaded: .*No such file"),
    ],
)
def test_a_failed_download_names_the_file_to_save_and_its_place(
    address, reason, server, publish, tmp_path
):
    address, file = publish(address.format(server=server)), tmp_path / "w.pth"
    remedy = f"download it on another computer and save it, with SHA-256 {SHA256}, as {file}"
    with pytest.raises(InputError, match=f"^evaluate.weights: {address} {reason}.*; {remedy}$"):
        stages.weights.main("inception_v3", file)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stage", "online", "message"),
    [
        ("prepare", True, ""),
        ("prepare", False, f"evaluate.weights: {NOWHERE} cannot be downloaded: "),
        ("train_lora", False, f"evaluate.weights: {NOWHERE} cannot be downloaded: "),
        ("generate", False, ""),
        ("evaluate", True, f"evaluate.weights: {FILE}: no such file"),
    ],
)
def test_the_first_stage_asks_whether_a_later_one_can_download(
    stage, online, message, refusal, publish
):
    """Without a network this is known before the training, not after it."""
    if not online:
        publish(NOWHERE)
    answer = refusal(stage, *INCEPTION, "evaluate.download=[inception_v3]")
    assert answer.startswith(message) and bool(answer) == bool(message)


@pytest.mark.parametrize(
    ("variable", "address", "reason"),
    [("HTTPS_PROXY", "{server}", "407"), ("HF_ENDPOINT", "http://127.0.0.1:1", "refused")],
)
def test_a_failed_download_of_the_base_names_every_file_to_fetch(
    variable, address, reason, server, folder
):
    revision = "0123abc" + 33 * "0"
    content = yaml.safe_load((folder / "params.yaml").read_text())
    content["model"]["download"] = [revision]
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    code = (  # without waiting between attempts
        "import runpy, time; time.sleep = id; runpy.run_module('stages.download', None, '__main__')"
    )
    settings = {"PYTHONPATH": str(ROOT), "NO_PROXY": "", variable: address.format(server=server)}
    done = subprocess.run(
        [sys.executable, "-c", code, "owner/model", "models/mine"],
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    mentions = ("error: owner/model could not", reason, revision, "into models/mine", "unet/diffus")
    assert [mention for mention in mentions if mention not in done.stderr] == []


# ---------------------------------------------------------------- resume points, noise in the log


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EAGAIN, "another run with the same"),
        (errno.EACCES, "another run with the same"),
        (errno.ENOLCK, r"cannot be locked \(No locks available\)"),
    ],
)
def test_a_share_without_locks_is_not_taken_for_another_run(number, message, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(InputError, match=f"{tmp_path}: {message}"):
        checkpoints._lock(tmp_path)


class Bomb:
    """Unpickled, it leaves a mark; a real one would do worse."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_hostile_resume_point_is_never_run(tmp_path):
    import torch

    mark, file = tmp_path / "executed", tmp_path / "state.pt"
    checkpoints.save({"now": Bomb(mark)}, file)
    with pytest.raises(InputError, match=f"{file}: Weights only load failed.*; remove the file"):
        checkpoints.load(file)
    assert not mark.exists()
    torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=False)
    assert mark.exists()


def test_only_noise_is_filtered():
    for name, text in stages.NOISE.items():
        logger = logging.getLogger(name)
        records = [logger.filter(logging.makeLogRecord({"msg": msg})) for msg in (text, "else")]
        assert [bool(record) for record in records] == [False, True]
