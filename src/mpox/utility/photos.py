"""What a trial compares: photos of mpox and of other conditions, and synthetic pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from mpox.core.picture_set import PictureSet
from mpox.photos.intake import MPOX

PARTS = ("train", "val", "test")


class Pictures(NamedTuple):
    """The files of a trial."""

    mpox: Mapping[str, PictureSet]  # photos, by part
    controls: Mapping[str, PictureSet]
    variants: PictureSet  # augmented variants of the training photos of mpox …
    control_variants: PictureSet  # … and of controls
    synthetic: PictureSet
    placebo: PictureSet  # drawn by the base model without the LoRA

    @classmethod
    def read(cls, prepared: Path, controls: Path, *others: Path) -> Self:
        """Read two folders that `prepare` wrote, and the other four in the order above."""
        mpox, rest = (
            {part: PictureSet.read(folder / part) for part in PARTS}
            for folder in (prepared, controls)
        )
        return cls(mpox, rest, *map(PictureSet.read, others))


@dataclass(frozen=True)
class Photos:
    """The n real photos of one part, mpox before controls."""

    rows: np.ndarray  # float32 n×d, features
    labels: list[str]  # n; MPOX or a control's
    patients: list[str]  # n; photos that may show one patient share a number
    tones: list[str]  # n, `tone.word` of the tone measured in the photo
    colours: np.ndarray  # float n×3, mean R, G, B

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mpox(self) -> np.ndarray:
        """n, bool."""
        return np.array([label == MPOX for label in self.labels], bool)

    def subset(self, chosen: np.ndarray) -> "Photos":
        """The photos where `chosen` (n, bool) is true."""
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
    """The training photos as they are, or passed through the base model's autoencoder."""

    train: Photos
    variants: Sequence[np.ndarray]  # V arrays, n×d: one augmented variant of each photo

    def subset(self, chosen: np.ndarray) -> "Version":
        """The photos where `chosen` (n, bool) is true, and their variants."""
        return Version(self.train.subset(chosen), [rows[chosen] for rows in self.variants])


@dataclass(frozen=True)
class Pixels:
    """The pictures themselves, for networks: uint8 n×S×S×3 each."""

    plain: np.ndarray  # the training photos
    encoded: np.ndarray  # the training photos through the base model's autoencoder
    val: np.ndarray
    test: np.ndarray
    synthetic: np.ndarray
    placebo: np.ndarray


@dataclass(frozen=True)
class Sets:
    """All pictures of a trial, with their features."""

    plain: Version
    encoded: Version  # the training photos through the base model's autoencoder
    val: Photos
    test: Photos
    masked: tuple[Photos, Photos, Photos]  # train, val, test with the centre masked
    synthetic: np.ndarray  # m×d
    placebo: np.ndarray  # l×d, pictures drawn by the base model without the LoRA
    pixels: Pixels | None = None  # None where features are made up
