"""What a trial looks at: features of photos of mpox and controls, and of synthetic pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpox.core.picture_set import PictureSet

MPOX = "mpox"  # the label of what is not a control
PARTS = ("train", "val", "test")


class Files(NamedTuple):
    """The n photos of one part, mpox before controls, as prepare left them."""

    paths: list[Path]
    labels: list[str]  # MPOX or a control's
    patients: list[str]  # a group has one number, whether mpox or control


def find(prepared: Path, controls: Path, part: str) -> Files:
    """The photos of `part` in the two folders that prepare wrote."""
    mpox, others = (PictureSet.read(folder / part) for folder in (prepared, controls))
    return Files(
        mpox.paths + others.paths,
        [MPOX] * len(mpox) + [row["label"] for row in others.rows],
        mpox.patients + others.patients,
    )


@dataclass(frozen=True)
class Photos:
    """Real photos, of mpox and controls together."""

    rows: np.ndarray  # float32 n×d, features
    labels: list[str]  # n; MPOX or a control's
    patients: list[str]  # n
    tones: list[str]  # n, `tone.word` of what is measured in the photo
    colours: np.ndarray  # float n×3, mean R, G, B

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mpox(self) -> np.ndarray:
        """n, bool."""
        return np.array([label == MPOX for label in self.labels], bool)

    def having(self, rows: np.ndarray) -> "Photos":
        """The same photos with other features, as of variants of them."""
        return replace(self, rows=rows)

    def subset(self, chosen: np.ndarray) -> "Photos":
        """Those where `chosen` (n, bool) is true."""
        places = np.flatnonzero(chosen)
        return Photos(
            self.rows[places],
            [self.labels[i] for i in places],
            [self.patients[i] for i in places],
            [self.tones[i] for i in places],
            self.colours[places],
        )


@dataclass(frozen=True)
class Version:
    """The training photos in one of two versions: as they are, or through the autoencoder."""

    train: Photos
    variants: Sequence[np.ndarray]  # V times n×d: augmented variants of each of them, or none


@dataclass(frozen=True)
class Pixels:
    """The pictures themselves, for networks: uint8 n×S×S×3 each."""

    plain: np.ndarray  # the training photos
    encoded: np.ndarray  # the same through the base's autoencoder
    val: np.ndarray
    test: np.ndarray
    synthetic: np.ndarray
    placebo: np.ndarray


@dataclass(frozen=True)
class Sets:
    """All that a trial looks at."""

    plain: Version
    encoded: Version  # the training photos through the base's autoencoder
    val: Photos
    test: Photos
    masked: tuple[Photos, Photos, Photos]  # train, val, test with their centre masked
    synthetic: np.ndarray  # m×d
    placebo: np.ndarray  # l×d, the base's own pictures
    pixels: Pixels | None = None  # None where features are made up
