"""Networks trained end to end, on pictures so small that an answer takes a second."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torchvision.models import resnet18
from torchvision.transforms.functional import normalize

from mpox.core import images
from mpox.utility import network
from mpox.utility.network import Pool, Recipe

CPU = torch.device("cpu")
TINY = Recipe("small", network.small, 16, 1e-2, steps=60, batch=16)


def pictures(rng: np.random.Generator, number: int, mpox: bool, tint: int = 0) -> np.ndarray:
    """uint8 n×16×16×3: noise with a spot; mpox is dark in a bright ring, controls the reverse."""
    spot = np.full((6, 6, 1), 7)
    spot[2:4, 2:4] = -56
    noise = rng.normal(128, 22, (number, 16, 16, 1)) + rng.normal(0, 9, (number, 1, 1, 3))
    for picture in noise:
        y, x = rng.integers(1, 9, 2)
        picture[y : y + 6, x : x + 6] += spot if mpox else -spot
    noise[..., 2] += tint
    return np.clip(noise, 0, 255).astype(np.uint8)


def tensor(rng: np.random.Generator, number: int, mpox: bool, tint: int = 0) -> torch.Tensor:
    return network.tensor(pictures(rng, number, mpox, tint), 16, CPU)


@pytest.fixture(scope="module")
def pool() -> Pool:
    rng = np.random.default_rng(0)
    return Pool(tensor(rng, 12, True), tensor(rng, 12, False), tensor(rng, 20, True), (0.0, 0.0))


def trained(pool: Pool, share: float, seed: int = 0, recipe: Recipe = TINY) -> torch.nn.Module:
    return network.train(recipe, pool._replace(shares=(share, share)), seed)


def area(net: torch.nn.Module) -> float:
    """AUROC on 200 pictures that no network saw."""
    rng = np.random.default_rng(99)
    test = torch.cat([tensor(rng, 100, True), tensor(rng, 100, False)])
    return roc_auc_score(np.arange(200) < 100, network.margins(net, test))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    weights = [list(net.state_dict().values()) for net in (one, other)]
    return all(map(torch.equal, *weights))


def test_a_share_of_0_is_real_photos_to_the_bit_and_other_random_numbers_change_nothing(pool):
    short = TINY._replace(steps=5)
    torch.manual_seed(3)
    alone = trained(pool._replace(added=pool.added[:0]), 0.0, recipe=short)
    after = torch.rand(7)
    assert same(alone, trained(pool, 0.0, recipe=short))
    assert not same(alone, trained(pool, 0.4, recipe=short))
    assert not same(alone, trained(pool, 0.0, seed=1, recipe=short))
    torch.manual_seed(3)
    assert torch.equal(torch.rand(7), after)


def test_half_a_batch_is_mpox_with_the_added_pictures_share(pool):
    marked = [torch.full((9, 3, 2, 2), k, dtype=torch.uint8) for k in (10, 20, 30)]
    for share in (0.0, 0.2, 0.4, 1.0):
        batches = [
            network.draw(Pool(*marked, (share, share)), share, 32, np.random.default_rng(k))
            for k in range(200)
        ]
        drawn = torch.stack(batches)[:, :, 0, 0, 0]
        assert set(drawn[:, :16].unique().tolist()) <= {10, 30} and (drawn[:, 16:] == 20).all()
        error = np.sqrt(3200 * share * (1 - share))
        assert abs(int((drawn[:, :16] == 30).sum()) - 3200 * share) <= 3 * error


def test_which_photos_are_drawn_does_not_depend_on_the_share(pool):
    none = network.draw(pool._replace(added=pool.added[:0]), 0.0, 16, np.random.default_rng(0))
    some, more = (network.draw(pool, share, 16, np.random.default_rng(0)) for share in (0.2, 0.6))
    photos = (more == none).flatten(1).all(1)
    assert (some == none).flatten(1).all(1)[photos].all() and 8 <= photos.sum() < 16


def test_the_second_half_of_the_steps_has_the_second_share(pool, monkeypatch):
    shares = []
    draw = network.draw
    monkeypatch.setattr(
        network, "draw", lambda pool, share, *more: shares.append(share) or draw(pool, share, *more)
    )
    network.train(TINY._replace(steps=5), pool._replace(shares=(1.0, 0.0)), 0)
    assert shares == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_without_shift_and_jitter_a_picture_is_only_turned_or_mirrored(monkeypatch):
    monkeypatch.setattr(network, "SHIFT", 0)
    monkeypatch.setattr(network, "JITTER", 0)
    picture = pictures(np.random.default_rng(0), 1, True)[0]
    many = torch.from_numpy(picture).permute(2, 0, 1).repeat(64, 1, 1, 1) / 255
    turned = network.augment(many, np.random.default_rng(1))
    ways = [torch.from_numpy(way).permute(2, 0, 1) / 255 for way in images.ways(picture)]
    which = [[torch.allclose(each, way, atol=1e-6) for way in ways] for each in turned]
    assert np.array(which).sum(1).tolist() == [1] * 64 and np.array(which).any(0).all()


def test_a_shift_is_up_to_a_sixteenth_and_colours_stay_within_theirs(monkeypatch):
    monkeypatch.setattr(network, "JITTER", 0)
    spot = torch.zeros(64, 3, 32, 32)
    spot[:, :, 15, 15] = 1
    places = network.augment(spot, np.random.default_rng(0))[:, 0].flatten(1).argmax(1)
    y, x = places // 32, places % 32
    assert min(y.min(), x.min()) == 13 and max(y.max(), x.max()) == 18  # mirrored: 15 is 16
    monkeypatch.undo()
    grey = torch.full((64, 3, 32, 32), 0.5)
    jittered = network.augment(grey, np.random.default_rng(0))
    levels = jittered[:, :, 0, 0]
    assert (jittered == levels[:, :, None, None]).all()  # no seam of a shift
    assert torch.allclose(levels, levels[:, :1].expand(-1, 3), atol=1e-6)  # grey stays grey
    assert 0.4 <= levels.min() < 0.42 and 0.58 < levels.max() <= 0.6


def test_pictures_are_resized_as_by_pillow_and_left_alone_at_their_size():
    originals = pictures(np.random.default_rng(0), 2, True)
    assert np.array_equal(network.tensor(originals, 16, CPU).permute(0, 2, 3, 1), originals)
    resized = network.tensor(originals, 24, CPU).permute(0, 2, 3, 1).numpy()
    for ours, picture in zip(resized, originals, strict=True):
        theirs = Image.fromarray(picture).resize((24, 24), Image.Resampling.BICUBIC)
        assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1
    assert network.tensor(originals[:0], 24, CPU).shape == (0, 3, 24, 24)


def test_a_resnet18_starts_from_torchvisions_weights(tmp_path):
    torch.manual_seed(0)
    theirs = resnet18()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    net = network.pretrained(tmp_path / "w.pth").eval()
    theirs.fc = torch.nn.Identity()
    three = tensor(np.random.default_rng(0), 3, True)
    features = theirs.eval()(normalize(three / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = (features @ net.fc.weight.T + net.fc.bias)[:, 0].detach().numpy()
    assert network.margins(net, three) == pytest.approx(expected, abs=1e-5)


def test_more_pictures_of_the_disease_help_where_one_photo_is_too_few(pool):
    few = pool._replace(mpox=pool.mpox[:1])
    alone, both = area(trained(few, 0.0)), area(trained(few, 0.8))
    assert alone < 0.85 < 0.93 < both


def test_false_labels_or_a_tint_of_synthetic_pictures_cost_the_classifier_its_accuracy(pool):
    """A tint on all added pictures of mpox makes the spots unnecessary."""
    rng = np.random.default_rng(5)
    false, tinted = (tensor(rng, 20, False), tensor(rng, 20, True, tint=60))
    assert area(trained(pool, 1.0)) > 0.9
    assert area(trained(pool._replace(added=false), 1.0)) < 0.65
    assert area(trained(pool._replace(added=tinted), 1.0)) < 0.75
