import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.measures import distances, evaluation, frechet, kernel, sheets, ssim
from mpox.measures.evaluation import Compared
from mpox.params import Evaluate
from mpox.pictures import feature_set, features
from mpox.pictures.feature_set import FeatureSet, Sets
from mpox.statistics import halves
from mpox.statistics.estimate import ALL, Estimate, Metrics
from stages.evaluate import main

SIZE = 32
SETTINGS = Evaluate(
    features="efficientnet_lite0", weights=None, download=(), max_pictures=None, by=("tone",)
)


def fill(folder: Path, count: int, seed: int, suffix: str = "png") -> Path:
    """A folder of smooth random pictures."""
    folder.mkdir()
    for i in range(count):
        coarse = np.random.default_rng([seed, i]).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        images.write(folder / f"{i:03d}.{suffix}", images.square(coarse, SIZE))
    return folder


def evaluate(
    real: Path, synthetic: Path, settings: Evaluate, side: int, seed: int, training=None
) -> tuple[Metrics, evaluation.Result]:
    """The metrics as they are read back from their file, and the result itself."""
    compared = Compared(*(each and PictureSet.read(each) for each in (real, synthetic, training)))
    result = evaluation.evaluate(compared, settings, side, seed)
    return Metrics.parse(result.metrics.to_json().encode(), "metrics"), result


def features_alone(rows: np.ndarray, folder: str) -> FeatureSet:
    """A set of which nothing but its features is known: each picture is a patient's own."""
    paths = [Path(folder, f"{i}.png") for i in range(len(rows))]
    pictures = PictureSet(Path(folder), paths, [{} for _ in paths], None, [])
    return FeatureSet(pictures, np.empty((len(rows), 0)), rows, np.empty((len(rows), 0)))


def measure(one: np.ndarray, other: np.ndarray, seed: int) -> dict[str, Estimate]:
    """The distances of features, at h pictures a side."""
    sets = Sets(features_alone(one, "real"), features_alone(other, "synthetic"))
    draws = distances.draw_halves(sets, np.random.default_rng(seed))
    rng = np.random.default_rng([seed, 1])
    return distances.measure(sets.test, sets.synthetic, draws, evaluation.NEIGHBOURS, rng)


@pytest.fixture
def seen(monkeypatch):
    """A small extractor in place of the network; gives the list of the pictures it was shown."""
    shown = []

    def forward(pixels):
        shown.extend(pixels.permute(0, 2, 3, 1).numpy())
        return torch.nn.functional.adaptive_avg_pool2d(pixels.float() / 255, 2).flatten(1)

    tiny = features.Extractor("tiny", SIZE, "0123456789abcdef", torch.device("cpu"), forward)
    monkeypatch.setattr(features, "load", lambda *_: tiny)
    return shown


@pytest.fixture
def prepared(tmp_path):
    """12 test pictures of 6 patients, 14 synthetic ones, 16 training ones of 4."""
    real, synthetic = fill(tmp_path / "test", 12, 0), fill(tmp_path / "synthetic", 14, 1)
    training = fill(tmp_path / "train", 16, 2)
    table.write(real, ["patient"], {f"{i:03d}.png": [i // 2] for i in range(12)})
    table.write(training, ["patient"], {f"{i:03d}.png": [90 + i // 4] for i in range(16)})
    return real, synthetic, training


def test_numbers_are_those_of_the_formulas(seen, tmp_path):
    """On the features of the pictures as they went in: squared, resized, recoded."""
    real, synthetic = fill(tmp_path / "real", 12, 0), fill(tmp_path / "synthetic", 12, 1, "jpg")
    metrics, _ = evaluate(real, synthetic, SETTINGS, 16, 0)
    expected = [
        images.recode(images.square(images.read(path), 16))
        for folder in (real, synthetic)
        for path in sorted(folder.iterdir())
    ]
    assert np.array_equal(seen, expected)
    pixels = torch.tensor(np.stack(expected)).permute(0, 3, 1, 2).float() / 255
    rows = torch.nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1).numpy()
    assert metrics["fid"].value == pytest.approx(frechet.distance(rows[:12], rows[12:]), rel=1e-5)
    assert metrics["kid"].value == pytest.approx(kernel.distance(rows[:12], rows[12:]), rel=1e-5)
    assert metrics["fid_excess"].value == pytest.approx(
        metrics["fid_half"].value - metrics["fid_floor"].value, rel=1e-4
    )


def test_identity_says_what_may_be_compared(seen, prepared):
    real, synthetic, training = prepared
    metrics, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    identity = metrics.identity
    assert identity["features"] == "tiny" and identity["features_sha256"] == "01234567"
    assert {k: v for k, v in identity.items() if k.startswith("n_")} == {
        "n_test": 12, "n_training": 16, "n_synthetic": 14, "n_fid": 12, "n_half": 6,
    }  # fmt: skip
    assert (identity["neighbours"], identity["ms_ssim_scales"]) == (5, 2)
    again, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    assert again == metrics
    (training / "000.png").write_bytes((synthetic / "000.png").read_bytes())
    other, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    assert other.identity.pop("split") != identity.pop("split")
    assert other.identity == identity


def test_every_estimate_has_six_digits_beside_what_it_is_read_with(seen, prepared):
    metrics, _ = evaluate(*prepared[:2], SETTINGS, SIZE, 0, *prepared[2:])
    assert {"all", "by tone", "tone: dark"} <= set(metrics.estimates)
    for name, found in [pair for own in metrics.estimates.values() for pair in own.items()]:
        for number in (found.value, found.low, found.high, found.null, found.noise):
            assert np.isnan(number) or number == float(f"{number:.6g}")
        if not np.isnan(found.low):
            assert found.low <= found.value <= found.high, name
    for name in ("precision", "recall", "density", "coverage", "vendi_ratio", "ms_ssim",
                 "repeat_rate", "copy_rate", "ssim_nearest", "kid"):  # fmt: skip
        assert not np.isnan([metrics[name].null, metrics[name].noise]).any()
    for name in ("precision", "recall", "coverage"):
        assert metrics[name].high <= 1


def test_headlines_are_measures_of_all_pictures_to_four_digits(seen, prepared):
    metrics, _ = evaluate(*prepared[:2], SETTINGS, SIZE, 0, *prepared[2:])
    assert tuple(metrics.headlines) == evaluation.HEADLINES
    for name, number in metrics.headlines.items():
        assert number == pytest.approx(metrics[name].value, rel=5e-4)
        assert number == float(f"{number:.4g}")
    alone, _ = evaluate(*prepared[:2], SETTINGS, SIZE, 0)
    assert set(evaluation.HEADLINES) - set(alone.headlines) == {"copy_rate"}


def test_without_training_pictures_nothing_is_said_of_copies(seen, prepared):
    metrics, found = evaluate(*prepared[:2], SETTINGS, SIZE, 0)
    of_copies = ("copy", "hash", "fid_gap", "ssim_nearest")
    assert not [name for name in metrics.estimates[ALL] if name.startswith(of_copies)]
    assert metrics.identity["n_training"] == 0
    assert found.pairs == []


def test_halves_share_no_patient_of_the_table(seen, prepared, monkeypatch):
    drawn = []
    draw = halves.draw
    monkeypatch.setattr(
        halves, "draw", lambda groups, *rest: (drawn.append(list(groups)), draw(groups, *rest))[1]
    )
    evaluate(*prepared[:2], SETTINGS, SIZE, 0, *prepared[2:])
    test, synthetic, training = drawn[:3]
    assert test == [f"{i // 2}" for i in range(12)]
    assert training == [f"{90 + i // 4}" for i in range(16)]
    assert len(set(synthetic)) == 14


def test_a_copy_is_counted_and_shown_first(seen, prepared):
    real, synthetic, training = prepared
    clean, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    turned = np.rot90(images.read(training / "005.png"))
    for i in (3, 4, 5, 6):
        images.write(synthetic / f"{i:03d}.png", turned)
    metrics, found = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    assert metrics["copy_rate"].value > 0.28 > clean["copy_rate"].value
    assert metrics["copy_rate"].null == clean["copy_rate"].null
    assert metrics["copy_cosine"].value > 0.999 > metrics["copy_threshold"].value
    assert metrics["hash_bits"].value <= 2 < clean["hash_bits"].value
    assert metrics["hash_rate"].value > 0.28 > clean["hash_rate"].value
    assert metrics["ssim_nearest"].value > clean["ssim_nearest"].value + 0.15
    side = sheets.SIDE
    sheet = sheets.pairs(found.pairs)
    left, right = (sheet[:side, i * side : (i + 1) * side] for i in (0, 1))
    assert np.abs(left.astype(int) - right).mean() < 4
    assert np.abs(left.astype(int) - cv2.resize(turned, (side, side))).mean() < 12


def test_a_collapsed_set_repeats_itself(seen, prepared):
    real, synthetic, *rest = prepared
    clean, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, *rest)
    for i in range(7):
        images.write(synthetic / f"{i:03d}.png", images.read(synthetic / f"{i + 7:03d}.png"))
    metrics, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, *rest)
    assert metrics["repeat_rate"].value > 0.7 > clean["repeat_rate"].value
    assert metrics["vendi_ratio"].value < clean["vendi_ratio"].value
    assert metrics["ms_ssim"].value > clean["ms_ssim"].value


def test_the_gap_says_which_pictures_were_learnt(seen, prepared):
    real, _, training = prepared
    learnt, _ = evaluate(real, training, SETTINGS, SIZE, 0, training)
    held_out, _ = evaluate(real, real, SETTINGS, SIZE, 0, training)
    assert learnt["fid_gap"].value > 0 > held_out["fid_gap"].value


def test_a_picture_the_table_does_not_list_is_named(seen, prepared):
    real, synthetic, training = prepared
    fill(real / "new", 1, 7)
    with pytest.raises(InputError, match=r"test/metadata\.csv: has no row for new/000\.png"):
        evaluate(real, synthetic, SETTINGS, SIZE, 0, training)


def test_identity_says_whether_patients_are_known(seen, prepared):
    real, synthetic, training = prepared

    def known() -> str:
        metrics, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
        return metrics.identity["patients"]

    assert known() == "known"
    rows = {f"{i:03d}.png": ["unknown", i] for i in range(16)}
    table.write(training, ["patient", "group"], rows)
    assert known() == "unknown"
    (training / table.NAME).unlink()
    assert known() == "unknown"


def test_what_patients_are_called_changes_no_number(seen, prepared):
    real, synthetic, training = prepared
    metrics, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    table.write(real, ["patient"], {f"{i:03d}.png": [f"x{9 - i // 2}"] for i in range(12)})
    again, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    assert again == metrics
    table.write(real, ["patient"], {f"{i:03d}.png": [i // 3] for i in range(12)})
    other, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    assert other.identity["split"] != metrics.identity["split"]


@pytest.mark.parametrize("which", ["test", "train"])
def test_one_patient_alone_is_refused_by_folder(seen, prepared, which):
    real, synthetic, training = prepared
    folder = real if which == "test" else training
    names = [path.name for path in folder.glob("*.png")]
    table.write(folder, ["patient"], {name: [7] for name in names})
    with pytest.raises(InputError, match=f"{which}: too few patients"):
        evaluate(real, synthetic, SETTINGS, SIZE, 0, training)


def test_ssim_pairs_by_name_and_shows_how_little_it_says(seen, tmp_path):
    real, synthetic = fill(tmp_path / "real", 6, 0), fill(tmp_path / "synthetic", 7, 1)
    metrics, _ = evaluate(real, synthetic, SETTINGS, SIZE, 0)
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
    assert metrics["ssim"].value == pytest.approx(mean_ssim(b), rel=1e-5)
    assert metrics["ssim_constant"].value == pytest.approx(mean_ssim([plain] * 6), rel=1e-5)
    assert metrics["ssim_real"].value == pytest.approx(mean_ssim(a[3:] + a[:3]), rel=1e-5)
    assert metrics["ssim_constant"].value > metrics["ssim_real"].value


def test_pictures_drawn_depend_on_the_seed_alone(tmp_path):
    folder = fill(tmp_path / "real", 20, 0)
    (folder / "notes.txt").touch()
    pictures = PictureSet.read(folder)

    def names(most: int | None, seed: int) -> list[str]:
        return feature_set.choose(pictures, most, seed).names

    drawn = names(7, 3)
    assert drawn == names(7, 3) == sorted(drawn)
    assert len(set(drawn)) == 7 and drawn != pictures.names[:7]
    assert drawn != names(7, 4)
    assert set(drawn) < set(names(8, 3))
    assert names(None, 3) == names(50, 3) == pictures.names


def test_max_pictures_limits_both_folders(seen, tmp_path):
    real, synthetic = fill(tmp_path / "real", 9, 0), fill(tmp_path / "synthetic", 14, 1)
    settings = SETTINGS.model_copy(update={"max_pictures": 5})
    metrics, _ = evaluate(real, synthetic, settings, SIZE, 0)
    identity = metrics.identity
    assert (identity["n_test"], identity["n_synthetic"], identity["n_fid"]) == (5, 5, 5)
    assert len(seen) == 10


def shown(colour: tuple[int, int, int], count: int) -> FeatureSet:
    """`count` pictures of one colour."""
    pixels = np.full((count, SIZE, SIZE, 3), colour, np.uint8)
    return replace(features_alone(np.zeros((count, 1), np.float32), "."), pixels=pixels)


def test_contact_sheet_has_the_real_pictures_on_the_left():
    real, synthetic = shown((255, 0, 0), 40), shown((0, 0, 255), 40)
    sheet = evaluation.contact_sheet(real, synthetic)
    half = 4 * SIZE + 3 * 2
    assert sheet.shape == (8 * SIZE + 7 * 2, 2 * half + SIZE // 4, 3)
    left, right = sheet[:, :half], sheet[:, -half:]
    assert left[..., 0].min() > 250 and (left[..., 2] < 5).sum() == 32 * SIZE**2
    assert right[..., 2].min() > 250 and (right[..., 0] < 5).sum() == 32 * SIZE**2
    few = evaluation.contact_sheet(real.subset(np.arange(4)), synthetic)
    assert few.shape == (SIZE, sheet.shape[1], 3)


@pytest.mark.parametrize("few", ["real", "synthetic"])
def test_too_few_pictures_name_the_folder(seen, tmp_path, few):
    folders = [fill(tmp_path / name, 3 if name == few else 4, 0) for name in ("real", "synthetic")]
    with pytest.raises(InputError, match=f"{few}: 3 pictures, expected at least 4"):
        evaluate(*folders, SETTINGS, SIZE, 0)


def test_unreadable_pictures_are_named(seen, tmp_path):
    real, synthetic = fill(tmp_path / "real", 4, 0), fill(tmp_path / "synthetic", 4, 1)
    (synthetic / "torn.png").write_bytes((synthetic / "000.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"torn\.png"):
        evaluate(real, synthetic, SETTINGS, SIZE, 0)


def test_missing_weights_stop_before_any_picture_is_read(tmp_path):
    settings = Evaluate(
        by=(), features="inception_v3", weights="nowhere.pth", download=(), max_pictures=None
    )
    (tmp_path / "none.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        evaluate(tmp_path, tmp_path, settings, SIZE, 0)


def test_the_stage_writes_the_same_files_each_time(tmp_path):
    """With the network itself, so that its bits are in the comparison too."""
    real, synthetic = fill(tmp_path / "real", 5, 0), fill(tmp_path / "synthetic", 6, 1)
    table.write(real, ["patient"], {f"{i:03d}.png": [i] for i in range(5)})
    params = SimpleNamespace(evaluate=SETTINGS, resolution=SIZE, seed=7)
    written = []
    for run in ("one", "two"):
        metrics, pictures = tmp_path / run / "evaluation.json", tmp_path / run / "pictures"
        main(params, real, synthetic, metrics, pictures, real)
        written.append({path.name: path.read_bytes() for path in (metrics, *pictures.iterdir())})
    assert written[0] == written[1]
    assert set(written[0]) == {
        "evaluation.json", "contact_sheet.jpg", "suspicious_pairs.jpg", "suspicious_pairs.csv",
        "influences.json",
    }  # fmt: skip
    found = Metrics.parse(written[0]["evaluation.json"], "evaluation.json")
    assert found.identity["features"] == "efficientnet_lite0" and found["fid"].value > 0


def test_the_table_of_pairs_says_what_the_sheet_shows(seen, prepared, tmp_path):
    real, synthetic, training = prepared
    images.write(synthetic / "004.png", np.rot90(images.read(training / "005.png")))
    _, found = evaluate(real, synthetic, SETTINGS, SIZE, 0, training)
    sheets.write_table(tmp_path / "pairs.csv", found.pairs)
    with (tmp_path / "pairs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["by"] for row in rows] == ["features"] * 3 + ["hashes"] * 3
    for row in (rows[0], rows[3]):
        assert (row["synthetic"], row["training"]) == ("004.png", "005.png")
        assert float(row["cosine"]) > 0.999 and int(row["bits"]) <= 2
        own, other = (
            images.recode(images.read(path))
            for path in (synthetic / "004.png", training / "005.png")
        )
        turned = images.ways(other)[int(row["orientation"])]
        assert np.abs(own.astype(int) - turned).mean() < 4
        assert float(row["ssim"]) == pytest.approx(ssim.similarity(own, turned), rel=1e-4)


def test_by_hand_nothing_is_written_over(prepared, tmp_path, monkeypatch):
    params = SimpleNamespace(evaluate=SETTINGS, resolution=SIZE, seed=7)
    (tmp_path / "metrics.json").write_text("of another")
    with pytest.raises(InputError, match=r"metrics\.json: exists already"):
        main(params, *prepared[:2], tmp_path / "metrics.json", tmp_path / "sheets")
    with pytest.raises(InputError, match="synthetic: holds files already"):
        main(params, *prepared[:2], tmp_path / "new.json", prepared[1])
    assert (tmp_path / "metrics.json").read_text() == "of another"


def test_features_alone_are_measured_as_in_a_whole_evaluation():
    rng = np.random.default_rng(3)
    one, other = (rng.normal(shift, 1, (60, 8)).astype(np.float32) for shift in (0, 0.4))
    found = measure(one, other, 7)
    assert found["fid"].value == pytest.approx(frechet.distance(one, other), rel=1e-5)
    assert found["kid"].value == pytest.approx(kernel.distance(one, other), rel=1e-5)
    assert found["fid_excess"].low < found["fid_excess"].value < found["fid_excess"].high
    assert found == measure(one, other, 7)


@pytest.mark.slow
def test_large_sets_measured_by_parts_hold_the_truth(monkeypatch):
    """Equal sets of 400, by parts of 40: the distance beyond the floor is 0, the kernel's too."""
    monkeypatch.setattr(halves, "MOST", 40)
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        one, other = rng.normal(size=(2, 400, 8))
        found = measure(one, other, seed)
        names = ("fid_excess", "kid", "precision", "coverage")
        held.append([found[x].low <= found[x].null <= found[x].high for x in names])
    assert (np.mean(held, axis=0) >= 0.85).all(), np.mean(held, axis=0)
