"""What launchers leave in the environment, and what a device cannot do."""

from types import SimpleNamespace

import pytest
import torch

from mpox.core.errors import InputError
from mpox.model import processes


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_half_precision_without_a_gpu(device, monkeypatch, caplog):
    """fp16 is refused, bf16 allowed with a word."""
    monkeypatch.setattr(
        processes, "PartialState", lambda: SimpleNamespace(device=torch.device(device))
    )
    processes.check_precision("generate.precision", "fp32")
    assert not caplog.records
    processes.check_precision("generate.precision", "bf16")
    assert ("generate.precision: bf16 takes" in caplog.text) == (device == "cpu")
    if device == "cpu":
        with pytest.raises(InputError, match=r"generate\.precision: got fp16, which needs a GPU"):
            processes.check_precision("generate.precision", "fp16")
    else:
        processes.check_precision("generate.precision", "fp16")


@pytest.fixture
def alone(monkeypatch):
    """No launcher's variables, nor accelerate's."""
    for name in (*processes.LAUNCHER, *processes.FOREIGN):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"WORLD_SIZE": "4", "RANK": "0"},
            "RANK, WORLD_SIZE: set without LOCAL_RANK, MASTER_ADDR, MASTER_PORT, as if left from "
            "another job; unset RANK WORLD_SIZE, or start with LAUNCH=",
        ),
        ({"RANK": "3"}, "RANK: set without LOCAL_RANK, WORLD_SIZE, MASTER"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK: set without RANK, WORLD_SIZE, MASTER"),
        (
            {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "29500"},
            "RANK, LOCAL_RANK, WORLD_SIZE, MASTER_PORT: set without MASTER_ADDR",
        ),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE: got 'many', expected a number; unset WORLD_SIZE"),
        (
            {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "no port"},
            "the processes launched cannot be joined: .*; see docs/scaling.md, or unset RANK ",
        ),
        *(
            ({name: "true"}, f"{name}: got 'true', which is not supported; unset {name}")
            for name in processes.FOREIGN
        ),
    ],
)
def test_what_a_job_script_left_over_is_one_line(given, said, alone, monkeypatch):
    """And no traceback of accelerate's or PyTorch's."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^{said}") as refused:
        processes.start()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "-1"},
        {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "3"},
        {"ACCELERATE_USE_DEEPSPEED": "false", "ACCELERATE_USE_FSDP": ""},
    ],
)
def test_what_says_nothing_of_processes_changes_nothing(given, alone, monkeypatch):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    state = processes.start()
    assert state.num_processes == 1 and state.is_main_process
