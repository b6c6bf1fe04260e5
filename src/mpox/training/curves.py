"""Training curves: always with dvclive, and with Weights & Biases if `WANDB_PROJECT` is set.

DVC hashes these files, so they hold nothing that differs between equal runs, such as times.
"""

import csv
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Self

import matplotlib
from dvclive import Live
from matplotlib.figure import Figure

from mpox.core import images, listing
from mpox.core.errors import InputError
from mpox.params import Train

History = list[tuple[int, dict[str, float]]]  # (step, values by name) in the order logged


class Curves:
    """A context manager that logs numbers by step into `folder`, after rewriting `history`."""

    def __init__(self, folder: Path, settings: Train, history: History, main_process: bool):
        self.folder, self.settings, self.main_process = folder, settings, main_process
        self.history: History = []
        self.logged = history

    def __enter__(self) -> Self:
        self.live: Live | None = None
        self.wandb: Any = None
        if self.main_process:
            shutil.rmtree(self.folder, ignore_errors=True)
            # Otherwise dvclive would rewrite the root dvc.yaml during the run.
            self.live = Live(str(self.folder), dvcyaml=None, save_dvc_exp=False)
        for step, values in self.logged:
            self.log(step, values)
        if self.main_process and os.environ.get("WANDB_PROJECT"):
            self.wandb = _weights_and_biases(self.folder.parents[1], self.settings)
        return self

    def __exit__(self, *failure: object) -> None:
        if self.live:
            self.live.end()
        if self.wandb:
            self.wandb.finish(exit_code=int(failure[0] is not None))

    def log(self, step: int, values: dict[str, float]) -> None:
        self.history.append((step, values))
        if self.live:
            self.live.step = step
            for name, value in values.items():
                self.live.log_metric(name, value, plot="/" not in name)
            self.live.make_summary()
        if self.wandb:
            self.wandb.log(values, step=step)

    def show(self, step: int, folder: Path) -> None:
        """Logs validation pictures, not to dvclive, whose folder is in git."""
        if self.wandb:
            import wandb

            pictures = [wandb.Image(images.read(path)) for path in listing.find(folder)[0]]
            self.wandb.log({"validation": pictures}, step=step)

    def draw(self, file: Path) -> None:
        """Draws the curves as one picture; DVC's plots need a network connection."""
        if not self.live:
            return
        figure = Figure(figsize=(8, 6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, names in ((upper, ("loss", "val_loss")), (lower, ("learning_rate",))):
            for name in names:
                table = self.folder / "plots" / "metrics" / f"{name}.tsv"
                with table.open(newline="") as stream:
                    rows = list(csv.DictReader(stream, delimiter="\t"))
                steps = [int(row["step"]) for row in rows]
                axes.plot(steps, [float(row[name]) for row in rows], label=name.replace("_", " "))
            axes.legend()
            axes.grid(alpha=0.3)
        lower.set_xlabel("step")
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=100, metadata={"Software": f"matplotlib {matplotlib.__version__}"})


def check_tracker() -> None:
    """InputError if Weights & Biases is requested and would fail; call it before any work.

    It asks the server, for about 10 s at most, unless WANDB_MODE is offline or disabled.
    """
    if not os.environ.get("WANDB_PROJECT"):
        return
    wandb = _import()
    try:
        online = wandb.setup().settings.mode not in ("offline", "dryrun", "disabled")
        if online and not wandb.login(verify=True, prompt=False):
            raise wandb.Error("there is no login")
    except (wandb.Error, ValueError) as error:  # ValueError: an unknown WANDB_MODE
        raise _unusable(error) from None


def _import() -> Any:
    try:
        import wandb
    except ImportError:
        raise InputError(
            "WANDB_PROJECT: is set, but wandb is not installed; install it or unset WANDB_PROJECT"
        ) from None
    return wandb


def _unusable(error: Exception) -> InputError:
    reason = " ".join(str(error).split()).rstrip(".")
    return InputError(
        f"WANDB_PROJECT: Weights & Biases cannot be used: {reason}; run `wandb login`, or set "
        "WANDB_MODE=offline if its server is out of reach, or unset WANDB_PROJECT"
    )


def _weights_and_biases(work: Path, settings: Train) -> Any:
    wandb = _import()
    # A resumed training continues the same run, whose offline files must outlive the resume point.
    identity = work / "wandb-id"
    if not identity.exists():
        identity.write_text(secrets.token_hex(4))
    try:
        return wandb.init(
            config=settings.model_dump(),
            id=identity.read_text(),
            resume="allow",
            dir=os.environ.get("WANDB_DIR", os.environ.get("DVC_ROOT", ".")),
        )
    except wandb.Error as error:
        raise _unusable(error) from None
