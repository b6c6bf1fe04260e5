"""The arms that networks are trained on: what each sees, and that none is trained twice."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_network import TINY
from test_trial import pictured

from mpox.utility import end_to_end, network
from mpox.utility.end_to_end import Networks, Plan

CPU = torch.device("cpu")
PLAN = Plan("small", network.small, TINY._replace(steps=2))
NAMES = ["real", "share_20", "share_40", "placebo", "synthetic", "synthetic_first"]


@pytest.fixture
def networks(tmp_path) -> Networks:
    return Networks(pictured(), PLAN, 0, tmp_path, CPU)


def test_six_arms_in_two_versions_of_three_networks(networks):
    found = networks.train()
    assert list(found) == ["plain", "encoded"]
    assert len(list(networks.work.iterdir())) == 36
    for arms in found.values():
        assert list(arms) == NAMES
        n, m = 15, 9
        counts = [n, n + m, n + m, n + m, m, n + m]
        assert [arm.n_mpox for arm in arms.values()] == counts
        for arm in arms.values():
            assert arm.scores.shape == (3, len(networks.sets.test)) and arm.n_controls == 30
            assert len({row.tobytes() for row in arm.scores}) == 3
            assert (arm.scores > 0).all() and (arm.scores < 1).all()
    scores = [arm.scores.tobytes() for arms in found.values() for arm in arms.values()]
    assert len(set(scores)) == 12


def test_an_arms_thresholds_and_loss_are_those_of_val(networks):
    arm = replace(networks, names=("real",), repeats=2).train()["plain"]["real"]
    val, mpox = networks.sets.pixels.val, networks.sets.val.mpox
    train, chosen = networks.sets.pixels.plain, networks.sets.plain.train.mpox
    pool = network.Pool(
        *(network.tensor(train[each], 16, CPU) for each in (chosen, ~chosen)), torch.empty(0)
    )
    losses = []
    for k, threshold in enumerate(arm.thresholds):
        seed = end_to_end.derive(0, "utility", "network", k)
        net = network.train(network.small, PLAN.recipe, pool, (0.0, 0.0), seed)
        odds = network.margins(net, network.tensor(val, 16, CPU))
        said = 1 / (1 + np.exp(-odds))
        assert 0.9 <= np.mean(said[~mpox] < threshold) <= 0.95
        of_true = np.where(mpox, said, 1 - said)
        losses.append(-(np.log(of_true[mpox]).mean() + np.log(of_true[~mpox]).mean()) / 2)
    assert arm.val_loss == pytest.approx(np.mean(losses))


def test_a_killed_trial_goes_on_with_the_next_network(networks, monkeypatch):
    networks, trained = replace(networks, names=("real", "share_40"), repeats=2), []
    train = network.train

    def stop(*given):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(given)
        return train(*given)

    monkeypatch.setattr(network, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        networks.train()
    monkeypatch.undo()
    monkeypatch.setattr(network, "train", lambda *given: trained.append(given) or train(*given))
    resumed = networks.train()
    assert len(trained) == 8
    again = replace(networks, work=networks.work / "other").train()
    for version, name in itertools.product(resumed, networks.names):
        assert np.array_equal(resumed[version][name].scores, again[version][name].scores)
