"""Variables that launchers leave behind, and precisions that a device does not support."""

from types import SimpleNamespace

import pytest
import torch

from mpox.core.errors import InputError
from mpox.model import processes


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_half_precision_without_a_gpu(device, monkeypatch, caplog):
    """Refuses fp16 and warns for bf16."""
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
    """An environment without variables of a launcher or of accelerate."""
    for name in (*processes.LAUNCHER, *processes.FOREIGN):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"WORLD_SIZE": "4", "RANK": "0"},
            "RANK, WORLD_SIZE: set without LOCAL_RANK, MASTER_ADDR, MASTER_PORT, perhaps by an "
            "earlier job; unset RANK WORLD_SIZE, or start with LAUNCH=",
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
            "the launched processes cannot be joined: .*; see docs/hardware.md, or unset RANK ",
        ),
        *(
            ({name: "true"}, f"{name}: got 'true', which is not supported; unset {name}")
            for name in processes.FOREIGN
        ),
    ],
)
def test_variables_of_another_job_are_refused_in_one_line(variables, message, alone, monkeypatch):
    """Otherwise accelerate or PyTorch would end in a traceback."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^{message}") as refused:
        processes.start()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "-1"},
        {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "3"},
        {"ACCELERATE_USE_DEEPSPEED": "false", "ACCELERATE_USE_FSDP": ""},
    ],
)
def test_variables_for_one_process_change_nothing(variables, alone, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    state = processes.start()
    assert state.num_processes == 1 and state.is_main_process
