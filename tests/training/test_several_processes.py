"""Two processes against one: the same loss, the same pictures, and no process left waiting."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, contents
from test_dreambooth import curve

from mpox.core.picture_set import PictureSet
from mpox.model import checkpoints
from mpox.sampling import sampler
from mpox.sampling.sampler import Job
from mpox.training import dreambooth
from mpox.training.dreambooth import Recipe, Sets

pytestmark = pytest.mark.slow

HEAD = """
import os, signal, stages
from mpox.training import dreambooth
from mpox.training.learner import Learner
from stages import train_lora
"""
STAGE = "stages.run(train_lora.main, launched=True)"
EVERY_STEP = "dreambooth.LOG_STEPS = 1"
# The first process dies as by a power cut; the second waits for it in the exchange of gradients.
POWER_CUT = """
save = Learner.save
def last_save(learner, *state):
    save(learner, *state)
    if learner.step == 8 and os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
Learner.save = last_save
"""


def start(folder: Path, command: list[str], **environment: str) -> subprocess.Popen:
    """A command in `folder`, with as many threads as this process has."""
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "WANDB_PROJECT": "",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),  # torchrun would set 1
    }
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | settings | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_two(folder: Path, command: list[str], **environment: str) -> list[tuple[int, str]]:
    """Two processes as torchrun starts them; exit status and standard error of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pair = [start(folder, command, RANK=k, LOCAL_RANK=k, **environment) for k in "01"]
    logs = [process.communicate(timeout=600)[1] for process in pair]
    return [(process.returncode, log) for process, log in zip(pair, logs, strict=True)]


def training(inputs: list[Path], code: str) -> list[str]:
    """The command of train_lora, tampered with by `code`, from `inputs` to `models`, `curves`."""
    *pictures, model = map(str, inputs)
    words = [*pictures, "models", "curves", f"model.path={model}"]
    return ["python", "-c", f"{HEAD}{code}\n{STAGE}", *words]


@pytest.fixture(scope="module")
def inputs(augmented, held_out, tiny_sd) -> list[Path]:
    return [augmented, held_out, held_out, tiny_sd]  # no class pictures are needed


@pytest.fixture(scope="module")
def settings(small):
    """The held-out loss, and with it a resume point, at every other step; noise between steps."""
    train = small.train.model_copy(update={"val_loss_steps": 2, "select": "last"})
    generate = small.generate.model_copy(update={"scheduler": "dpm++_sde"})
    return small.model_copy(update={"train": train, "generate": generate})


@pytest.fixture
def repository(settings, tmp_path) -> Path:
    """A folder to run stages in."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return tmp_path


def train_alone(inputs: list[Path], settings, work: Path) -> Path:
    """One process, its training loss logged at every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_PROJECT", raising=False)
        patch.setattr(dreambooth, "LOG_STEPS", 1)
        *folders, model = inputs
        recipe = Recipe(model, settings.train, settings.resolution, settings.seed)
        return dreambooth.train(Sets(*map(PictureSet.read, folders)), recipe, work)


@pytest.fixture(scope="module")
def alone(inputs, settings, tmp_path_factory) -> Path:
    return train_alone(inputs, settings, tmp_path_factory.mktemp("alone"))


def test_two_processes_in_micro_batches_train_as_one(repository, inputs, alone):
    """Each takes two of a batch's four samples, one at a time."""
    command = training(inputs, EVERY_STEP)
    for k, (status, log) in enumerate(run_two(repository, command, MPOX_MICRO_BATCH="1")):
        assert status == 0, log
        assert ("Trained 13 steps" in log) == (k == 0)  # the first process alone logs
    for name, points in (("loss", 13), ("val_loss", 8)):
        expected, together = (curve(folder, name) for folder in (alone, repository))
        assert len(expected) == points
        assert together == pytest.approx(expected, rel=1e-5)
    assert contents(repository / "models").keys() == contents(alone / "lora").keys()
    [work] = (repository / ".checkpoints").iterdir()
    assert (work / checkpoints.FINISHED).exists()


def test_one_process_finishes_what_two_began(repository, inputs, settings, alone):
    """When the first of two is killed, the second ends too, with one line that says why."""
    (killed, _), (status, log) = run_two(repository, training(inputs, POWER_CUT + EVERY_STEP))
    assert killed < 0 and status == 1 and not (repository / "models").exists()
    assert log.splitlines()[-1].startswith("error: another process of this run has ended"), log
    [work] = (repository / ".checkpoints").iterdir()
    assert checkpoints.load(work / "state.pt")["now"]["step"] == 8
    resumed = train_alone(inputs, settings, work)
    for name in ("loss", "val_loss"):
        expected, values = (curve(folder, name) for folder in (alone, resumed))
        assert values == pytest.approx(expected, rel=1e-5)


def test_two_processes_draw_the_bytes_of_one(repository, inputs, alone, settings, tmp_path):
    """Five pictures in batches of two: the second process draws one batch, the first two."""
    model, adapter = inputs[-1], alone / "lora"
    command = ["python", "-m", "stages.generate", str(adapter), "pictures", f"model.path={model}"]
    for status, log in run_two(repository, command):
        assert status == 0, log
    folder = tmp_path / "alone"
    job = Job("generate", model, settings.generate, settings.resolution, settings.seed, adapter)
    sampler.generate(job, folder)
    drawn = contents(repository / "pictures")
    assert len(drawn) == 5 + 1 and drawn == contents(folder)
