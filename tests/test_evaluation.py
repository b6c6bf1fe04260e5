import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from mpox import evaluation, features, frechet, images, kernel
from mpox.errors import InputError
from mpox.params import Evaluate
from stages.evaluate import main

SIZE = 32
SETTINGS = Evaluate(features="efficientnet_lite0", weights=None, max_pictures=None)


def fill(folder: Path, count: int, seed: int, suffix: str = "png") -> Path:
    """A folder of smooth random pictures."""
    folder.mkdir()
    for i in range(count):
        coarse = np.random.default_rng([seed, i]).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        images.write(folder / f"{i:03d}.{suffix}", images.square(coarse, SIZE))
    return folder


@pytest.fixture
def seen(monkeypatch):
    """A small extractor in place of the network; gives the list of the pictures it was shown."""
    shown = []

    def forward(pixels):
        shown.extend(pixels.permute(0, 2, 3, 1).numpy())
        return torch.nn.functional.adaptive_avg_pool2d(pixels.float() / 255, 2).flatten(1)

    tiny = features.Extractor("tiny", 12, SIZE, "0123456789abcdef", torch.device("cpu"), forward)
    monkeypatch.setattr(features, "load", lambda *_: tiny)
    return shown


def test_numbers_are_those_of_the_formulas(seen, tmp_path):
    """On the features of the pictures as they went in: squared, resized, recoded."""
    real, synthetic = fill(tmp_path / "real", 12, 0), fill(tmp_path / "synthetic", 12, 1, "jpg")
    metrics, _ = evaluation.evaluate(real, synthetic, SETTINGS, 16, 0)
    expected = [
        images.recode(images.square(images.read(path), 16))
        for folder in (real, synthetic)
        for path in sorted(folder.iterdir())
    ]
    assert np.array_equal(seen, expected)
    pixels = torch.tensor(np.stack(expected)).permute(0, 3, 1, 2).float() / 255
    rows = torch.nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1).numpy()
    assert metrics["fid"] == pytest.approx(frechet.distance(rows[:12], rows[12:]), rel=1e-5)
    assert metrics["kid"] == pytest.approx(kernel.distance(rows[:12], rows[12:]), rel=1e-5)
    assert metrics["fid_excess"] == pytest.approx(
        metrics["fid_half"] - metrics["fid_floor"], rel=1e-4
    )


def test_each_number_has_its_n_and_every_value_is_a_scalar(seen, tmp_path):
    real, synthetic = fill(tmp_path / "real", 9, 0), fill(tmp_path / "synthetic", 14, 1)
    metrics, _ = evaluation.evaluate(real, synthetic, SETTINGS, SIZE, 0)
    sizes = {key: metrics[key] for key in metrics if key.endswith("_n") or key.startswith("n_")}
    assert sizes == {"n_real": 9, "n_synthetic": 14, "fid_n": 9, "fid_half_n": 4, "ssim_n": 9}
    assert metrics["features"] == "tiny" and metrics["features_sha256"] == "01234567"
    assert all(isinstance(value, str | int | float) for value in metrics.values())
    for value in metrics.values():
        assert not isinstance(value, float) or value == float(f"{value:.6g}")
    assert json.loads(json.dumps(metrics)) == metrics


def test_ssim_pairs_by_name_and_shows_how_little_it_says(seen, tmp_path):
    real, synthetic = fill(tmp_path / "real", 6, 0), fill(tmp_path / "synthetic", 7, 1)
    metrics, _ = evaluation.evaluate(real, synthetic, SETTINGS, SIZE, 0)
    a, b = (
        [images.recode(images.read(path)) for path in sorted(folder.iterdir())]
        for folder in (real, synthetic)
    )

    def mean_ssim(others):
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        return np.mean(
            [
                structural_similarity(x, y, channel_axis=2, data_range=255, **options)
                for x, y in zip(a, others, strict=False)
            ]
        )

    plain = np.full_like(a[0], np.mean(a, axis=(0, 1, 2)).round())
    assert metrics["ssim"] == pytest.approx(mean_ssim(b), rel=1e-5)
    assert metrics["ssim_constant"] == pytest.approx(mean_ssim([plain] * 6), rel=1e-5)
    assert metrics["ssim_real"] == pytest.approx(mean_ssim(a[3:] + a[:3]), rel=1e-5)
    assert metrics["ssim_constant"] > metrics["ssim_real"]


def test_pictures_drawn_depend_on_the_seed_alone(tmp_path):
    folder = fill(tmp_path / "real", 20, 0)
    (folder / "notes.txt").touch()
    names = sorted(path.name for path in folder.glob("*.png"))
    drawn = [path.name for path in evaluation.choose(folder, 7, 3)]
    assert drawn == [path.name for path in evaluation.choose(folder, 7, 3)] == sorted(drawn)
    assert len(set(drawn)) == 7 and drawn != names[:7]
    assert drawn != [path.name for path in evaluation.choose(folder, 7, 4)]
    assert set(drawn) < {path.name for path in evaluation.choose(folder, 8, 3)}
    for most in (None, 50):
        assert [path.name for path in evaluation.choose(folder, most, 3)] == names


def test_max_pictures_limits_both_folders(seen, tmp_path):
    real, synthetic = fill(tmp_path / "real", 9, 0), fill(tmp_path / "synthetic", 14, 1)
    settings = SETTINGS.model_copy(update={"max_pictures": 5})
    metrics, _ = evaluation.evaluate(real, synthetic, settings, SIZE, 0)
    assert (metrics["n_real"], metrics["n_synthetic"], metrics["ssim_n"]) == (5, 5, 5)
    assert len(seen) == 10


def test_contact_sheet_has_the_real_pictures_on_the_left(tmp_path):
    red, blue = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    for name, colour in (("real", red), ("synthetic", blue)):
        (tmp_path / name).mkdir()
        for i in range(40):
            images.write(tmp_path / name / f"{i}.png", colour)
    real, synthetic = (sorted((tmp_path / name).iterdir()) for name in ("real", "synthetic"))
    sheet = evaluation.contact_sheet(real, synthetic, SIZE)
    half = 4 * SIZE + 3 * 2
    assert sheet.shape == (8 * SIZE + 7 * 2, 2 * half + SIZE // 4, 3)
    left, right = sheet[:, :half], sheet[:, -half:]
    assert left[..., 0].min() > 250 and (left[..., 2] < 5).sum() == 32 * SIZE**2
    assert right[..., 2].min() > 250 and (right[..., 0] < 5).sum() == 32 * SIZE**2
    few = evaluation.contact_sheet(real[:4], synthetic, SIZE)
    assert few.shape == (SIZE, sheet.shape[1], 3)


@pytest.mark.parametrize("few", ["real", "synthetic"])
def test_too_few_pictures_name_the_folder(seen, tmp_path, few):
    folders = [fill(tmp_path / name, 3 if name == few else 4, 0) for name in ("real", "synthetic")]
    with pytest.raises(InputError, match=f"{few}: 3 pictures, expected at least 4"):
        evaluation.evaluate(*folders, SETTINGS, SIZE, 0)


def test_unreadable_pictures_are_named(seen, tmp_path):
    real, synthetic = fill(tmp_path / "real", 4, 0), fill(tmp_path / "synthetic", 4, 1)
    (synthetic / "torn.png").write_bytes((synthetic / "000.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"torn\.png"):
        evaluation.evaluate(real, synthetic, SETTINGS, SIZE, 0)


def test_missing_weights_stop_before_any_picture_is_read(tmp_path):
    settings = Evaluate(features="inception_v3", weights="nowhere.pth", max_pictures=None)
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        evaluation.evaluate(tmp_path / "none", tmp_path / "none", settings, SIZE, 0)


def test_the_stage_writes_the_same_files_each_time(tmp_path):
    """With the network itself, so that its bits are in the comparison too."""
    real, synthetic = fill(tmp_path / "real", 5, 0), fill(tmp_path / "synthetic", 6, 1)
    params = SimpleNamespace(evaluate=SETTINGS, resolution=SIZE, seed=7)
    written = []
    for run in ("one", "two"):
        metrics, pictures = tmp_path / run / "evaluation.json", tmp_path / run / "pictures"
        main(params, real, synthetic, metrics, pictures)
        written.append((metrics.read_bytes(), (pictures / "contact_sheet.jpg").read_bytes()))
    assert written[0] == written[1]
    numbers = json.loads(written[0][0])
    assert numbers["features"] == "efficientnet_lite0" and numbers["fid"] > 0
