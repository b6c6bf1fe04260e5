"""The outputs of a run that the page is made of, each read once."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mpox.core.picture_set import PictureSet
from mpox.params import Params
from mpox.statistics import estimate
from mpox.statistics.estimate import Metrics

PHANTOMS = "data/phantom/photos"


@dataclass(frozen=True)
class Run:
    """The outputs of all stages before `report`, by the paths in dvc.yaml."""

    params: Params
    prepared: Path  # train/, val/ and test/ with their tables, manifest.csv
    synthetic: Path
    base: Path  # pictures of the base for the same prompts and seeds
    lora: Path
    sheets: Path  # of the evaluation: contact sheets, suspicious pairs and their table
    metrics: Path
    profiles: Path  # params/, complete parameter files to compare this run's with
    lock: Path  # requirements.lock

    @property
    def of_phantoms(self) -> bool:
        """Whether the photos are the embedded phantoms, which show no real person."""
        return self.params.data.source == PHANTOMS

    @cached_property
    def sets(self) -> Mapping[str, PictureSet]:
        """The pictures of the splits and the synthetic ones."""
        folders = {name: self.prepared / name for name in ("train", "val", "test")}
        folders["synthetic"] = self.synthetic
        return {name: PictureSet.read(folder) for name, folder in folders.items()}

    @cached_property
    def preparation(self) -> Mapping[str, float]:
        """The counts of metrics/prepare.json."""
        return Metrics.read(self.metrics / "prepare.json").counts

    @cached_property
    def training(self) -> dict[str, Any]:
        """metrics/train/metrics.json of DVCLive: last values, and `selected`, the step used."""
        file = self.metrics / "train/metrics.json"
        return estimate.from_json(file.read_bytes(), str(file))

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a training curve: loss, val_loss or learning_rate."""
        file = self.metrics / f"train/plots/metrics/{name}.tsv"
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]

    @cached_property
    def evaluation(self) -> Metrics:
        return Metrics.read(self.metrics / "evaluation.json")

    @cached_property
    def utility(self) -> Metrics:
        return Metrics.read(self.metrics / "utility.json")

    @cached_property
    def privacy(self) -> Metrics:
        return Metrics.read(self.metrics / "privacy.json")

    @cached_property
    def reading(self) -> Metrics:
        return Metrics.read(self.metrics / "reading.json")

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the evaluation describes: extractor, N, whether patients are known."""
        return self.evaluation.identity
