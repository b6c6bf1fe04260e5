"""FID, KID and PRC of two halves of a folder against torch-fidelity: evaluate.py FOLDER.

Both read the same files and use the same network, EfficientNet-Lite0, so that what differs is all
else: reading, batching, the maths.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch_fidelity import calculate_metrics, register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox.core import images, listing
from mpox.measures import coverage, frechet, kernel
from mpox.pictures import features

NEIGHBOURS = 3  # torch-fidelity's own
EXTRACTOR = features.load("efficientnet_lite0", None, torch.device("cpu"))


class Lite0(FeatureExtractorBase):
    """The network as torch-fidelity calls it."""

    def __init__(self, name: str, features_list: list[str], **_):
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("pooled",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "pooled"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> torch.Tensor:
        return torch.zeros([1, 3, 4, 4], dtype=torch.uint8)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (EXTRACTOR.forward(pixels),)


class Files(torch.utils.data.Dataset):
    """Pictures as torch-fidelity takes them, uint8 3×H×W."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(images.read(self.paths[i]).copy()).permute(2, 0, 1)


def ours(a: list[Path], b: list[Path]) -> dict[str, float]:
    rows = [features.extract(map(images.read, paths), EXTRACTOR) for paths in (a, b)]
    measured = coverage.prdc(*rows, NEIGHBOURS)
    return {
        "fid": frechet.distance(*rows),
        "kid": kernel.distance(*rows),
        "precision": measured.precision,
        "recall": measured.recall,
    }


def theirs(a: list[Path], b: list[Path]) -> dict[str, float]:
    # synthetic first, as their precision and recall have it
    found = calculate_metrics(
        input1=Files(b), input2=Files(a), fid=True, kid=True, prc=True, cuda=False, verbose=False,
        feature_extractor="lite0", batch_size=8, cache=False, kid_subsets=100,
        kid_subset_size=min(len(a), len(b)), prc_neighborhood=NEIGHBOURS,
    )  # fmt: skip
    return {
        "fid": found["frechet_inception_distance"],
        "kid": found["kernel_inception_distance_mean"],
        "precision": found["precision"],
        "recall": found["recall"],
    }


def main(folder: Path) -> None:
    register_feature_extractor("lite0", Lite0)
    paths, _ = listing.find(folder)
    half = len(paths) // 2
    order = np.random.default_rng(0).permutation(len(paths))
    a, b = ([paths[i] for i in side] for side in (order[:half], order[half : 2 * half]))
    ours(a[:8], b[:8])  # everything is loaded
    started = time.perf_counter()
    own = ours(a, b)
    middle = time.perf_counter()
    other = theirs(a, b)
    ended = time.perf_counter()
    mine, peer = middle - started, ended - middle
    print(f"fid+kid+prc of 2×{half}  {mine:.1f} s  torch-fidelity {peer:.1f} s  {peer / mine:.1f}x")
    for name, value in own.items():
        print(f"{name}  {value:.8g}  {other[name]:.8g}  differ by {abs(value - other[name]):.1e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
