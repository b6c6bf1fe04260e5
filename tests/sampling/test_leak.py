"""The signal leak: the colour of the photos in the noise of the first step."""

import json

import numpy as np
import pytest
import torch

from mpox.core.errors import InputError
from mpox.sampling import leak

MEANS = {"tan": [1.0, 0.0, -1.0, 2.0], "dark": [-3.0, 1.0, 0.5, 0.0]}


def latents(tones: list[str], spread: float = 0.3) -> torch.Tensor:
    """Around the mean of their tone, with a pattern over the pixels whose mean is 0."""
    rng = np.random.default_rng(0)
    means = np.array([MEANS[tone] for tone in tones]) + rng.normal(0, spread, (len(tones), 4))
    pattern = rng.normal(size=(len(tones), 4, 8, 8))
    pattern -= pattern.mean((2, 3), keepdims=True)
    return torch.from_numpy(means[:, :, None, None] + pattern).float()


def fitted(tones: list[str]) -> dict:
    return leak.fit(latents(tones), [{"tone": tone} for tone in tones], ["tone"])


def drawn(photos: dict, asked: dict | None, count: int = 4000) -> np.ndarray:
    return np.array([leak.draw(photos, asked, 5, index).numpy() for index in range(count)])


def test_the_fit_is_numpys_mean_and_covariance_of_the_mean_latents():
    tones = ["tan", "dark"] * 40
    means = latents(tones).mean((2, 3)).numpy().astype(float)
    photos = fitted(tones)
    np.testing.assert_allclose(photos["mean"], means.mean(0), atol=1e-5)
    np.testing.assert_allclose(photos["covariance"], np.cov(means.T), atol=1e-5)
    np.testing.assert_allclose(
        photos["fields"]["tone"]["tan"]["mean"], means[::2].mean(0), atol=1e-5
    )
    # Within a tone only the spread is left: 0.3² in each channel.
    np.testing.assert_allclose(np.diag(photos["within"]), 0.09, atol=0.04)
    assert photos["combinations"] == [{"tone": "dark", "n": 40}, {"tone": "tan", "n": 40}]
    assert json.loads(json.dumps(photos)) == photos


def test_draws_have_the_fitted_moments_of_all_photos_or_of_a_tone():
    photos = fitted(["tan"] * 60 + ["dark"] * 20)
    everything = drawn(photos, None)
    np.testing.assert_allclose(everything.mean(0), photos["mean"], atol=0.1)
    np.testing.assert_allclose(np.cov(everything.T), photos["covariance"], atol=0.25)
    dark = drawn(photos, {"tone": "dark"})
    np.testing.assert_allclose(dark.mean(0), photos["fields"]["tone"]["dark"]["mean"], atol=0.03)
    np.testing.assert_allclose(np.cov(dark.T), photos["within"], atol=0.02)


def test_a_draw_is_a_function_of_seed_and_index():
    photos = fitted(["tan", "dark"] * 20)
    assert torch.equal(leak.draw(photos, None, 5, 3), leak.draw(photos, None, 5, 3))
    assert not torch.equal(leak.draw(photos, None, 5, 3), leak.draw(photos, None, 5, 4))
    assert not torch.equal(leak.draw(photos, None, 5, 3), leak.draw(photos, None, 6, 3))


def test_the_shifts_of_two_fields_add_up():
    rows = [{"tone": t, "site": s} for t in MEANS for s in ("arm", "leg")] * 10
    shift = torch.tensor(
        [[0.0] * 4 if row["site"] == "arm" else [0.0, 2.0, 0.0, 0.0] for row in rows]
    )
    found = latents([row["tone"] for row in rows], spread=0.0) + shift[:, :, None, None]
    photos = leak.fit(found, rows, ["tone", "site"])
    mean = drawn(photos, {"tone": "dark", "site": "leg"}, 50).mean(0)
    np.testing.assert_allclose(mean, np.add(MEANS["dark"], [0, 2, 0, 0]), atol=0.01)


def test_a_value_of_few_photos_has_a_count_and_no_mean():
    few = ["tan"] * 20 + ["dark"] * (leak.FEWEST - 1)
    photos = fitted(few)
    assert photos["fields"]["tone"]["dark"] == {"n": leak.FEWEST - 1, "mean": None}
    assert torch.equal(leak.draw(photos, {"tone": "dark"}, 0, 0), leak.draw(photos, None, 0, 0))
    with pytest.raises(InputError, match=r"no training photo has tone 'green'; expected one of"):
        leak.draw(photos, {"tone": "green"}, 0, 0)


def test_a_missing_or_damaged_photos_json_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"photos\.json: no such file; expected the one that train_lora"
    ):
        leak.read(tmp_path)
    (tmp_path / leak.FILE_NAME).write_text("{")
    with pytest.raises(InputError, match=r"photos\.json: not readable as JSON"):
        leak.read(tmp_path)
    leak.write(tmp_path, {"n": 3})
    assert leak.read(tmp_path) == {"n": 3}
