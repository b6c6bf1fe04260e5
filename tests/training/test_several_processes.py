"""Two processes, as torchrun starts them on one machine or on two, against one."""

import csv
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, contents

from mpox.core.picture_set import PictureSet
from mpox.model import checkpoints, lora
from mpox.sampling import sampler
from mpox.sampling.sampler import Job
from mpox.training import dreambooth
from mpox.training.dreambooth import Recipe, Sets

pytestmark = pytest.mark.slow

STAGE = "stages.run(train_lora.main, launched=True)"
EVERY_STEP = f"dreambooth.LOG_STEPS = 1; {STAGE}"
# The first process dies as by a power cut, the other one waits for it in the exchange of gradients.
POWER_CUT = f"""
from mpox.training.learner import Learner
save = Learner.save
def last_save(learner, *state):
    save(learner, *state)
    if learner.step == 8 and os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
Learner.save = last_save
{STAGE}
"""
# The second process finds a file it cannot read.
ONE_FAILS = f"""
def unreadable(path):
    raise InputError(f"{{path}}: cannot be read")
if os.environ["RANK"] == "1":
    images.read = unreadable
{STAGE}
"""


def call(folder: Path, processes: int, *command: str, **environment: str):
    """A command in `folder`, with a LAUNCH of so many processes, each of as many threads."""
    if processes > 1:
        environment["LAUNCH"] = f"torchrun --nproc-per-node {processes} --no-python"
    return run(folder, list(command), environment)


def call_two_machines(folder: Path, *command: str):
    """As `call`, of two torchruns with a process each that meet on the loopback interface."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    meet = ["--master-addr", "127.0.0.1", "--master-port", port, "--nproc-per-node", "1"]
    agents = [
        ["torchrun", "--nnodes", "2", "--node-rank", str(k), *meet, "--no-python", *command]
        for k in range(2)
    ]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda agent: run(folder, agent, {}), agents))


def run(folder: Path, command: list[str], environment: dict[str, str]):
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": programs, "PYTHONPATH": str(ROOT), "WANDB_PROJECT": ""}
    settings["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # torchrun would set 1
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def training_command(inputs: list[Path], code: str) -> list[str]:
    """train_lora, tampered with by `code`, from `inputs` into `models` and `curves`."""
    head = (
        "import os, signal, stages\nfrom mpox.core import images\n"
        "from mpox.training import dreambooth\n"
    )
    head += "from mpox.core.errors import InputError\nfrom stages import train_lora\n"
    *pictures, model = map(str, inputs)
    return ["python", "-c", head + code, *pictures, "models", "curves", f"model.path={model}"]


def train(repository: Path, inputs: list[Path], processes: int, code: str, **environment: str):
    return call(repository, processes, *training_command(inputs, code), **environment)


@pytest.fixture(scope="module")
def inputs(augmented, held_out, tiny_sd) -> list[Path]:
    return [augmented, held_out, held_out, tiny_sd]  # class pictures weigh nothing


@pytest.fixture(scope="module")
def settings(small):
    """The held-out loss at every other step, and with it a resume point; noise between steps."""
    train = small.train.model_copy(update={"val_loss_steps": 2, "select": "last"})
    generate = small.generate.model_copy(update={"scheduler": "dpm++_sde"})
    return small.model_copy(update={"train": train, "generate": generate})


@pytest.fixture
def repository(settings, tmp_path) -> Path:
    """A folder to run stages in."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return tmp_path


def curve(folder: Path, name: str) -> dict[int, float]:
    with (folder / "plots" / "metrics" / f"{name}.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return {int(row["step"]): float(row[name]) for row in rows}


@pytest.fixture(scope="module")
def alone(inputs, settings, tmp_path_factory) -> Path:
    """One process, its training loss logged at every step."""
    work = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_PROJECT", raising=False)
        patch.setattr(dreambooth, "LOG_STEPS", 1)
        *folders, model = inputs
        recipe = Recipe(model, settings.train, settings.resolution, settings.seed)
        return dreambooth.train(Sets(*map(PictureSet.read, folders)), recipe, work)


def test_two_processes_in_micro_batches_train_as_one(repository, inputs, alone):
    """Each takes two of a batch's four samples, one at a time."""
    done = train(repository, inputs, 2, EVERY_STEP, MPOX_MICRO_BATCH="1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained 13 steps") == 1  # the log is the first process's
    for name in ("loss", "val_loss"):
        expected, found = (
            curve(folder, name) for folder in (alone / "curves", repository / "curves")
        )
        assert len(expected) == {"loss": 13, "val_loss": 8}[name]
        assert found == pytest.approx(expected, rel=1e-5)
    left, expected_files = contents(repository / "models"), contents(alone / "lora")
    assert left.keys() == expected_files.keys()
    [work] = (repository / ".checkpoints").iterdir()
    assert (work / checkpoints.FINISHED).exists()


def test_a_run_of_two_machines_is_finished_by_one(repository, inputs, alone):
    """And when one dies the other does not wait for ever, and says in a line why it ends."""
    killed = call_two_machines(repository, *training_command(inputs, POWER_CUT))
    assert all(agent.returncode for agent in killed) and not (repository / "models").exists()
    last = killed[1].stderr
    assert "error: another process of this run has ended" in last and "[rank1]" not in last, last
    done = train(repository, inputs, 1, STAGE)
    assert done.returncode == 0 and "resuming after step 8" in done.stderr, done.stderr
    each = curve(alone / "curves", "loss")
    mean = {10: sum(each[i] for i in range(1, 11)) / 10, 13: (each[11] + each[12] + each[13]) / 3}
    assert curve(repository / "curves", "loss") == pytest.approx(mean, rel=1e-5)
    val_loss = curve(alone / "curves", "val_loss")
    assert curve(repository / "curves", "val_loss") == pytest.approx(val_loss, rel=1e-5)


def test_an_error_in_one_process_stops_both(repository, inputs):
    done = train(repository, inputs, 2, ONE_FAILS)
    assert done.returncode != 0 and "cannot be read" in done.stderr
    assert not (repository / "models").exists()


def test_two_machines_draw_the_bytes_of_one(repository, inputs, alone, settings, tmp_path):
    """Five pictures in batches of two: the second process draws one batch, the first two."""
    model, adapter = inputs[-1], alone / "lora"
    stage = ["python", "-m", "stages.generate", str(adapter), "pictures", f"model.path={model}"]
    for done in call_two_machines(repository, *stage):
        assert done.returncode == 0, done.stderr
    drawn = contents(repository / "pictures")
    assert drawn["metadata.csv"].count(b"\n") == 6
    folder, side = tmp_path / "alone", settings.resolution
    job = Job("generate", model, settings.generate, side, settings.seed, adapter)
    sampler.generate(job, folder)
    assert drawn == contents(folder)
    assert (adapter / lora.FILE_NAME).is_file() and len(drawn) == 5 + 1
