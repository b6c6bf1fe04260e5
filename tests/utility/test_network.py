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
TINY = Recipe(16, 1e-2, steps=60, batch=16)


def pictures(rng: np.random.Generator, number: int, mpox: bool, tint: int = 0) -> np.ndarray:
    """uint8 n×16×16×3: noise with a spot, of mpox dark in a bright ring, of controls reversed."""
    spot = np.full((6, 6, 1), 7)
    spot[2:4, 2:4] = -56
    found = rng.normal(128, 22, (number, 16, 16, 1)) + rng.normal(0, 9, (number, 1, 1, 3))
    for picture in found:
        y, x = rng.integers(1, 9, 2)
        picture[y : y + 6, x : x + 6] += spot if mpox else -spot
    found[..., 2] += tint
    return np.clip(found, 0, 255).astype(np.uint8)


def tensor(rng: np.random.Generator, number: int, mpox: bool, tint: int = 0) -> torch.Tensor:
    return network.tensor(pictures(rng, number, mpox, tint), 16, CPU)


@pytest.fixture(scope="module")
def pool() -> Pool:
    rng = np.random.default_rng(0)
    return Pool(tensor(rng, 12, True), tensor(rng, 12, False), tensor(rng, 20, True))


def trained(pool: Pool, share: float, seed: int = 0, recipe: Recipe = TINY) -> torch.nn.Module:
    return network.train(network.small, recipe, pool, (share, share), seed)


def area(net: torch.nn.Module) -> float:
    """AUROC on 200 pictures that no network saw."""
    rng = np.random.default_rng(99)
    test = torch.cat([tensor(rng, 100, True), tensor(rng, 100, False)])
    return roc_auc_score(np.arange(200) < 100, network.margins(net, test))


def weights(net: torch.nn.Module) -> list[torch.Tensor]:
    return list(net.state_dict().values())


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(map(torch.equal, weights(one), weights(other)))


def test_a_share_of_nothing_is_real_photos_to_the_bit_and_a_seed_gives_the_same_again(pool):
    short = TINY._replace(steps=5)
    alone = trained(pool._replace(added=pool.added[:0]), 0.0, recipe=short)
    torch.rand(7)  # what others drew says nothing
    assert same(alone, trained(pool, 0.0, recipe=short))
    assert not same(alone, trained(pool, 0.4, recipe=short))
    assert not same(alone, trained(pool, 0.0, seed=1, recipe=short))


def test_training_leaves_the_callers_random_numbers_alone(pool):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trained(pool, 0.4, recipe=TINY._replace(steps=1))
    assert torch.equal(torch.rand(2), expected)


def test_half_a_batch_is_mpox_of_which_added_pictures_have_their_share(pool):
    marked = Pool(*(torch.full((9, 3, 2, 2), k, dtype=torch.uint8) for k in (10, 20, 30)))
    counts = {}
    for share in (0.0, 0.2, 0.4, 1.0):
        drawn = torch.cat(
            [network.draw(marked, share, 32, np.random.default_rng(k)) for k in range(200)]
        )[:, 0, 0, 0].reshape(200, 32)
        assert set(drawn[:, :16].unique().tolist()) <= {10, 30} and (drawn[:, 16:] == 20).all()
        counts[share] = int((drawn[:, :16] == 30).sum())
    assert counts[0.0] == 0 and counts[1.0] == 3200
    for share in (0.2, 0.4):
        error = np.sqrt(3200 * share * (1 - share))
        assert abs(counts[share] - 3200 * share) < 3 * error


def test_which_photos_are_drawn_depends_on_no_share(pool):
    rng = [np.random.default_rng(0) for _ in range(3)]
    none = network.draw(pool._replace(added=pool.added[:0]), 0.0, 16, rng[0])
    some, more = (
        network.draw(pool, share, 16, r) for share, r in zip((0.2, 0.6), rng[1:], strict=True)
    )
    kept = (more == none).flatten(1).all(1)
    assert (some == none).flatten(1).all(1)[kept].all() and 8 <= kept.sum() < 16


def test_the_second_half_of_the_steps_has_the_second_share(pool, monkeypatch):
    shares = []
    draw = network.draw
    monkeypatch.setattr(
        network, "draw", lambda pool, share, *more: shares.append(share) or draw(pool, share, *more)
    )
    network.train(network.small, TINY._replace(steps=5), pool, (1.0, 0.0), 0)
    assert shares == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_without_shift_and_jitter_a_picture_is_only_turned_or_mirrored(monkeypatch):
    monkeypatch.setattr(network, "SHIFT", 0)
    monkeypatch.setattr(network, "JITTER", 0)
    picture = pictures(np.random.default_rng(0), 1, True)[0]
    many = torch.from_numpy(picture).permute(2, 0, 1).repeat(64, 1, 1, 1) / 255
    found = network.augment(many, np.random.default_rng(1))
    ways = [torch.from_numpy(way).permute(2, 0, 1) / 255 for way in images.ways(picture)]
    which = [[torch.allclose(each, way, atol=1e-6) for way in ways] for each in found]
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
    found = network.augment(grey, np.random.default_rng(0))
    levels = found[:, :, 0, 0]
    assert (found == levels[:, :, None, None]).all()  # no seam of a shift
    assert torch.allclose(levels, levels[:, :1].expand(-1, 3), atol=1e-6)  # grey stays grey
    assert 0.4 <= levels.min() < 0.42 and 0.58 < levels.max() <= 0.6


def test_pictures_are_resized_as_pillow_does_and_kept_where_they_fit():
    given = pictures(np.random.default_rng(0), 2, True)
    assert np.array_equal(network.tensor(given, 16, CPU).permute(0, 2, 3, 1), given)
    found = network.tensor(given, 24, CPU).permute(0, 2, 3, 1).numpy()
    for ours, picture in zip(found, given, strict=True):
        theirs = Image.fromarray(picture).resize((24, 24), Image.Resampling.BICUBIC)
        assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1
    assert network.tensor(given[:0], 24, CPU).shape == (0, 3, 24, 24)


def test_a_resnet18_starts_from_torchvisions_weights(tmp_path):
    torch.manual_seed(0)
    theirs = resnet18()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    net = network.pretrained(tmp_path / "w.pth").eval()
    theirs.fc = torch.nn.Identity()
    given = tensor(np.random.default_rng(0), 3, True)
    features = theirs.eval()(normalize(given / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = (features @ net.fc.weight.T + net.fc.bias)[:, 0].detach().numpy()
    assert network.margins(net, given) == pytest.approx(expected, abs=1e-5)


def test_more_pictures_of_the_disease_help_where_one_photo_is_too_few(pool):
    few = pool._replace(mpox=pool.mpox[:1])
    alone, both = area(trained(few, 0.0)), area(trained(few, 0.8))
    assert alone < 0.85 < 0.93 < both


def test_controls_called_mpox_and_a_tint_that_tells_synthetic_pictures_cost_it_all(pool):
    """With a tint on all that is called mpox there is no need to look for spots."""
    rng = np.random.default_rng(5)
    false, tinted = (tensor(rng, 20, False), tensor(rng, 20, True, tint=60))
    assert area(trained(pool, 1.0)) > 0.9
    assert area(trained(pool._replace(added=false), 1.0)) < 0.65
    assert area(trained(pool._replace(added=tinted), 1.0)) < 0.75
