"""The arms that networks are trained on: what each sees, and that none is trained twice."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_network import TINY
from test_trial import pictured

from mpox.utility import end_to_end, network
from mpox.utility.end_to_end import Networks

CPU = torch.device("cpu")
RECIPE = TINY._replace(steps=2)
NAMES = ["real", "share_20", "share_40", "placebo", "synthetic", "synthetic_first"]


@pytest.fixture
def networks(tmp_path) -> Networks:
    return Networks(pictured(), RECIPE, 0, tmp_path, CPU)


def test_six_arms_in_two_versions_of_three_networks(networks):
    versions = networks.train()
    assert list(versions) == ["plain", "encoded"]
    assert len(list(networks.work.iterdir())) == 36
    n, m = 15, 9
    for arms in versions.values():
        assert list(arms) == NAMES
        counts = [n, n + m, n + m, n + m, m, n + m]
        assert [arm.n_mpox for arm in arms.values()] == counts
        for arm in arms.values():
            assert arm.scores.shape == (3, len(networks.sets.test)) and arm.n_controls == 30
            assert len({row.tobytes() for row in arm.scores}) == 3
            assert (arm.scores > 0).all() and (arm.scores < 1).all()
    scores = [arm.scores.tobytes() for arms in versions.values() for arm in arms.values()]
    assert len(set(scores)) == 12


def test_an_arms_thresholds_and_loss_are_those_of_val(networks):
    arm = replace(networks, names=("real",)).train()["plain"]["real"]
    sets = networks.sets
    mpox, train, chosen = sets.val.mpox, sets.pixels.plain, sets.plain.train.mpox
    photos = [network.tensor(train[each], 16, CPU) for each in (chosen, ~chosen)]
    pool = network.Pool(*photos, torch.empty(0), (0.0, 0.0))
    losses = []
    for k, threshold in enumerate(arm.thresholds):
        seed = end_to_end.derive(0, "utility", "network", k)
        net = network.train(RECIPE, pool, seed)
        odds = network.margins(net, network.tensor(sets.pixels.val, 16, CPU))
        scores = 1 / (1 + np.exp(-odds))
        assert 0.9 <= np.mean(scores[~mpox] < threshold + 1e-12) <= 0.95  # rounded otherwise
        likelihood = np.log(np.where(mpox, scores, 1 - scores))
        losses.append(-(likelihood[mpox].mean() + likelihood[~mpox].mean()) / 2)
    assert arm.val_loss == pytest.approx(np.mean(losses))


def test_a_killed_trial_resumes_with_the_next_network(networks, monkeypatch):
    networks, trained = replace(networks, names=("real", "share_40")), []
    train = network.train

    def stop_at_the_fourth(*arguments):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(arguments)
        return train(*arguments)

    monkeypatch.setattr(network, "train", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        networks.train()
    monkeypatch.setattr(network, "train", lambda *each: trained.append(each) or train(*each))
    resumed = networks.train()
    assert len(trained) == 12
    again = replace(networks, work=networks.work / "other").train()
    for version, name in itertools.product(resumed, networks.names):
        assert np.array_equal(resumed[version][name].scores, again[version][name].scores)
