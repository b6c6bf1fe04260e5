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
from mpox.params import Evaluate
from mpox.pictures import feature_set, features
from mpox.pictures.feature_set import FeatureSet, Sets
from mpox.statistics import halves
from mpox.statistics.estimate import ALL, Metrics
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
    *folders: Path, settings: Evaluate = SETTINGS, side: int = SIZE
) -> tuple[Metrics, evaluation.Result]:
    """The metrics as they are read back from their file, and the result itself."""
    sets = Sets(*map(PictureSet.read, folders))
    result = evaluation.evaluate(sets, settings, side, 0)
    return Metrics.parse(result.metrics.to_json().encode(), "metrics"), result


def features_alone(rows: np.ndarray, folder: str) -> FeatureSet:
    """A set with nothing but features, in which each picture shows a patient of its own."""
    paths = [Path(folder, f"{i}.png") for i in range(len(rows))]
    pictures = PictureSet(Path(folder), paths, [{} for _ in paths], None, [])
    return FeatureSet(pictures, np.empty((len(rows), 0)), rows, np.empty((len(rows), 0)))


def mean_colours(pixels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(pixels.float() / 255, 2).flatten(1)


@pytest.fixture(scope="module", autouse=True)
def seen():
    """Replaces the network by mean colours, which are fast; lists the pictures it was shown."""
    shown = []

    def forward(pixels):
        shown.extend(pixels.permute(0, 2, 3, 1).numpy())
        return mean_colours(pixels)

    tiny = features.Extractor("tiny", SIZE, "0123456789abcdef", torch.device("cpu"), forward)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "load", lambda *_: tiny)
        patch.setattr(halves, "DRAWS", 40)
        yield shown


def prepare(folder: Path) -> tuple[Path, Path, Path]:
    """12 test pictures of 6 patients, 14 synthetic ones, 16 training ones of 4 patients."""
    test, synthetic = fill(folder / "test", 12, 0), fill(folder / "synthetic", 14, 1)
    training = fill(folder / "train", 16, 2)
    table.write(test, ["patient"], {f"{i:03d}.png": [i // 2] for i in range(12)})
    table.write(training, ["patient"], {f"{i:03d}.png": [90 + i // 4] for i in range(16)})
    return test, synthetic, training


@pytest.fixture
def prepared(tmp_path):
    return prepare(tmp_path)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Metrics:
    """The metrics of `prepared` as it is."""
    return evaluate(*prepare(tmp_path_factory.mktemp("clean")))[0]


def test_numbers_are_those_of_the_formulas(seen, tmp_path):
    """On the features of the pictures after cropping, resizing and recoding."""
    real, synthetic = fill(tmp_path / "real", 12, 0), fill(tmp_path / "synthetic", 12, 1, "jpg")
    seen.clear()
    metrics, _ = evaluate(real, synthetic, side=16)
    expected = [
        images.recode(images.square(images.read(path), 16))
        for folder in (real, synthetic)
        for path in sorted(folder.iterdir())
    ]
    assert np.array_equal(seen, expected)
    rows = mean_colours(torch.tensor(np.stack(expected)).permute(0, 3, 1, 2)).numpy()
    assert metrics["fid"].value == pytest.approx(frechet.distance(rows[:12], rows[12:]), rel=1e-5)
    assert metrics["kid"].value == pytest.approx(kernel.distance(rows[:12], rows[12:]), rel=1e-5)
    excess = metrics["fid_half"].value - metrics["fid_floor"].value
    assert metrics["fid_excess"].value == pytest.approx(excess, rel=1e-4)


def test_identity_states_what_was_measured(clean, prepared):
    identity = dict(clean.identity)
    assert identity["features"] == "tiny" and identity["features_sha256"] == "01234567"
    assert {k: v for k, v in identity.items() if k.startswith("n_")} == {
        "n_test": 12, "n_training": 16, "n_synthetic": 14, "n_fid": 12, "n_half": 6,
    }  # fmt: skip
    assert (identity["neighbours"], identity["ms_ssim_scales"]) == (5, 2)
    _, synthetic, training = prepared
    (training / "000.png").write_bytes((synthetic / "000.png").read_bytes())
    changed = dict(evaluate(*prepared)[0].identity)
    assert changed.pop("split") != identity.pop("split")
    assert changed == identity


@pytest.mark.parametrize(
    ("patients", "same_split"), [([f"x{9 - i // 2}" for i in range(12)], True), (range(12), False)]
)
def test_only_who_belongs_together_matters_and_not_the_names(clean, prepared, patients, same_split):
    rows = {f"{i:03d}.png": [patient] for i, patient in enumerate(patients)}
    table.write(prepared[0], ["patient"], rows)
    metrics, _ = evaluate(*prepared)
    assert (metrics == clean) is same_split
    assert (metrics.identity["split"] == clean.identity["split"]) is same_split


@pytest.mark.parametrize("has_table", [True, False])
def test_identity_states_whether_patients_are_known(clean, prepared, has_table):
    training = prepared[2]
    rows = {f"{i:03d}.png": ["unknown", i] for i in range(16)}
    table.write(training, ["patient", "group"], rows)
    if not has_table:
        (training / table.NAME).unlink()
    assert evaluate(*prepared)[0].identity["patients"] == "unknown"
    assert clean.identity["patients"] == "known"


def test_an_estimate_has_an_interval_a_null_and_noise_to_six_digits(clean):
    assert {"all", "by tone", "tone: dark"} <= set(clean.estimates)
    for estimates in clean.estimates.values():
        for name, each in estimates.items():
            for number in (each.value, each.low, each.high, each.null, each.noise):
                assert np.isnan(number) or number == float(f"{number:.6g}")
            assert np.isnan(each.low) or each.low <= each.value <= each.high, name
    for name in ("precision", "recall", "density", "coverage", "vendi_ratio", "ms_ssim",
                 "repeat_rate", "copy_rate", "ssim_nearest", "kid"):  # fmt: skip
        assert not np.isnan([clean[name].null, clean[name].noise]).any()
    for name in ("precision", "recall", "coverage"):
        assert clean[name].high <= 1


def test_headlines_are_measures_of_all_pictures_to_four_digits(clean):
    assert tuple(clean.headlines) == evaluation.HEADLINES
    for name, number in clean.headlines.items():
        assert number == pytest.approx(clean[name].value, rel=5e-4)
        assert number == float(f"{number:.4g}")


def test_copies_are_measured_only_with_training_pictures(prepared):
    metrics, result = evaluate(*prepared[:2])
    prefixes = ("copy", "hash", "fid_gap", "ssim_nearest")
    assert not [name for name in metrics.estimates[ALL] if name.startswith(prefixes)]
    assert metrics.identity["n_training"] == 0 and result.pairs == []
    assert set(evaluation.HEADLINES) - set(metrics.headlines) == {"copy_rate"}


def test_halves_share_no_patient(prepared):
    sets = Sets(*(PictureSet.read(folder) for folder in prepared))
    extractor = features.load()
    collected = Sets(*(feature_set.collect(each, SIZE, extractor) for each in sets))
    draws = distances.draw_halves(collected, np.random.default_rng(0))
    assert len(draws) == halves.DRAWS
    for draw in draws:
        one, other = ({sets.test.patients[i] for i in side} for side in (draw.one, draw.other))
        assert len(draw.one) == len(draw.synthetic) == len(draw.training) == 6
        assert not one & other and not set(draw.synthetic) & set(draw.redrawn)


def test_a_copy_is_counted_and_shown_first(clean, prepared, tmp_path):
    _, synthetic, training = prepared
    turned = np.rot90(images.read(training / "005.png"))
    for i in (3, 4, 5, 6):
        images.write(synthetic / f"{i:03d}.png", turned)
    metrics, result = evaluate(*prepared)
    for name in ("copy_rate", "hash_rate"):
        assert metrics[name].value > 0.28 > clean[name].value
    assert metrics["copy_rate"].null == clean["copy_rate"].null
    assert metrics["copy_cosine"].value > 0.999 > metrics["copy_threshold"].value
    assert metrics["hash_bits"].value <= 2 < clean["hash_bits"].value
    assert metrics["ssim_nearest"].value > clean["ssim_nearest"].value + 0.15

    side, sheet = sheets.SIDE, sheets.pairs(result.pairs)
    left, right = (sheet[:side, i * side : (i + 1) * side] for i in (0, 1))
    assert np.abs(left.astype(int) - right).mean() < 4
    assert np.abs(left.astype(int) - cv2.resize(turned, (side, side))).mean() < 12

    sheets.write_table(tmp_path / "pairs.csv", result.pairs)
    rows = list(csv.DictReader((tmp_path / "pairs.csv").open(newline="")))
    assert [row["by"] for row in rows] == ["features"] * 3 + ["hashes"] * 3
    for row in (rows[0], rows[3]):
        assert row["synthetic"] in ("003.png", "004.png", "005.png", "006.png")
        assert row["training"] == "005.png"
        assert float(row["cosine"]) > 0.999 and int(row["bits"]) <= 2
        copy, photo = (images.recode(images.read(path)) for path in
                       (synthetic / row["synthetic"], training / "005.png"))  # fmt: skip
        oriented = images.ways(photo)[int(row["orientation"])]
        assert np.abs(copy.astype(int) - oriented).mean() < 4
        assert float(row["ssim"]) == pytest.approx(ssim.similarity(copy, oriented), rel=1e-4)


def test_a_collapsed_set_repeats_itself(clean, prepared):
    synthetic = prepared[1]
    for i in range(7):
        images.write(synthetic / f"{i:03d}.png", images.read(synthetic / f"{i + 7:03d}.png"))
    metrics, _ = evaluate(*prepared)
    assert metrics["repeat_rate"].value > 0.7 > clean["repeat_rate"].value
    assert metrics["vendi_ratio"].value < clean["vendi_ratio"].value
    assert metrics["ms_ssim"].value > clean["ms_ssim"].value


def test_the_gap_tells_training_from_test_pictures(prepared):
    test, _, training = prepared
    trained, held_out = (evaluate(test, shown, training)[0] for shown in (training, test))
    assert trained["fid_gap"].value > 0 > held_out["fid_gap"].value


@pytest.mark.parametrize("which", ["test", "train"])
def test_a_set_of_one_patient_is_refused(prepared, which):
    folder = prepared[0].parent / which
    table.write(folder, ["patient"], {path.name: [7] for path in folder.glob("*.png")})
    with pytest.raises(InputError, match=f"{which}: too few patients"):
        evaluate(*prepared)


def test_ssim_pairs_by_name_and_a_plain_colour_scores_higher(tmp_path):
    real, synthetic = fill(tmp_path / "real", 6, 0), fill(tmp_path / "synthetic", 7, 1)
    metrics, _ = evaluate(real, synthetic)
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


def test_pictures_are_drawn_by_the_seed_alone(tmp_path):
    pictures = PictureSet.read(fill(tmp_path / "real", 20, 0))

    def names(most: int | None, seed: int) -> list[str]:
        return feature_set.choose(pictures, most, seed).names

    drawn = names(7, 3)
    assert drawn == names(7, 3) == sorted(drawn)
    assert len(set(drawn)) == 7 and drawn != pictures.names[:7]
    assert drawn != names(7, 4)
    assert set(drawn) < set(names(8, 3))
    assert names(None, 3) == names(50, 3) == pictures.names


def test_max_pictures_limits_every_folder(seen, prepared):
    seen.clear()
    settings = SETTINGS.model_copy(update={"max_pictures": 5})
    identity = evaluate(*prepared[:2], settings=settings)[0].identity
    assert (identity["n_test"], identity["n_synthetic"], identity["n_fid"]) == (5, 5, 5)
    assert len(seen) == 10


def shown(colour: tuple[int, int, int], count: int) -> FeatureSet:
    """`count` pictures of one colour."""
    pixels = np.full((count, SIZE, SIZE, 3), colour, np.uint8)
    return replace(features_alone(np.zeros((count, 1), np.float32), "."), pixels=pixels)


def test_contact_sheet_has_the_real_pictures_on_the_left():
    real, synthetic = shown((255, 0, 0), 40), shown((0, 0, 255), 40)
    sheet = sheets.contact(real, synthetic)
    half = 4 * SIZE + 3 * 2
    assert sheet.shape == (8 * SIZE + 7 * 2, 2 * half + SIZE // 4, 3)
    left, right = sheet[:, :half], sheet[:, -half:]
    assert left[..., 0].min() > 250 and (left[..., 2] < 5).sum() == 32 * SIZE**2
    assert right[..., 2].min() > 250 and (right[..., 0] < 5).sum() == 32 * SIZE**2
    few = sheets.contact(real.subset(np.arange(4)), synthetic)
    assert few.shape == (SIZE, sheet.shape[1], 3)


@pytest.mark.parametrize("few", ["real", "synthetic"])
def test_too_few_pictures_name_the_folder(tmp_path, few):
    folders = [fill(tmp_path / name, 3 if name == few else 4, 0) for name in ("real", "synthetic")]
    with pytest.raises(InputError, match=f"{few}: 3 pictures, expected at least 4"):
        evaluate(*folders)


def test_the_stage_writes_the_same_files_each_time_and_overwrites_none(tmp_path):
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
    with pytest.raises(InputError, match=r"evaluation\.json: exists already"):
        main(params, real, synthetic, metrics, tmp_path / "sheets")
    with pytest.raises(InputError, match="synthetic: holds files already"):
        main(params, real, synthetic, tmp_path / "new.json", synthetic)
    assert metrics.read_bytes() == written[1]["evaluation.json"]


@pytest.mark.slow
def test_intervals_of_large_sets_measured_in_parts_cover_the_null(monkeypatch):
    """Equal sets of 200 pictures, in parts of 20."""
    monkeypatch.setattr(halves, "MOST", 20)
    monkeypatch.setattr(halves, "DRAWS", 200)
    covered = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        one, other = rng.normal(size=(2, 200, 8))
        sets = Sets(features_alone(one, "real"), features_alone(other, "synthetic"))
        draws = distances.draw_halves(sets, rng)
        measures = distances.measure_distances(*sets[:2], draws, evaluation.NEIGHBOURS, rng)
        names = ("fid_excess", "kid", "precision", "coverage")
        covered.append([measures[x].low <= measures[x].null <= measures[x].high for x in names])
    assert (np.mean(covered, axis=0) >= 0.85).all(), np.mean(covered, axis=0)
