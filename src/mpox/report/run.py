"""What a run left behind: the files that the page is made of, read once."""

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mpox.core.errors import InputError
from mpox.params import Params
from mpox.statistics import estimate
from mpox.statistics.estimate import Estimate

PHANTOMS = "data/phantom/photos"


@dataclass(frozen=True)
class Run:
    """The outputs of every stage before `report`, by the paths that dvc.yaml gives them."""

    params: Params
    prepared: Path  # train/, val/ and test/ with their tables, manifest.csv
    synthetic: Path
    base: Path  # what the base draws by the same prompts and seeds
    lora: Path
    sheets: Path  # of the evaluation: contact sheet, suspicious pairs and their table
    metrics: Path
    profiles: Path  # params/, complete parameter files to hold this run's against
    lock: Path  # requirements.lock

    @property
    def of_phantoms(self) -> bool:
        """Whether the photos are the embedded phantoms, which show nobody."""
        return self.params.data.source == PHANTOMS

    @cached_property
    def preparation(self) -> dict[str, float]:
        """The counts of metrics/prepare.json."""
        return _json(self.metrics / "prepare.json")

    @cached_property
    def training(self) -> dict[str, Any]:
        """The last values of metrics/train/metrics.json, and `selected`: the step kept."""
        return _json(self.metrics / "train/metrics.json")

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a training curve: loss, val_loss or learning_rate."""
        file = self.metrics / f"train/plots/metrics/{name}.tsv"
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """The flat content of metrics/evaluation.json."""
        return _json(self.metrics / "evaluation.json")

    @cached_property
    def utility(self) -> dict[str, Any]:
        """The flat content of metrics/utility.json."""
        return _json(self.metrics / "utility.json")

    @cached_property
    def privacy(self) -> dict[str, Any]:
        """The flat content of metrics/privacy.json."""
        return _json(self.metrics / "privacy.json")

    @cached_property
    def reading(self) -> dict[str, Any]:
        """The flat content of metrics/reading.json."""
        return _json(self.metrics / "reading.json")

    @property
    def identity(self) -> dict[str, Any]:
        """What the evaluation is of: extractor, N, whether patients are known."""
        return self.evaluation["identity"]

    def estimate(self, name: str) -> Estimate:
        """A measure of the evaluation; InputError if it is not there."""
        found = estimate.read(self.evaluation, name)
        if found is None:
            raise InputError(f"{self.metrics / 'evaluation.json'}: {name}: missing")
        return found


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: no JSON: {error}") from None
