import numpy as np
import pytest

from mpox.statistics import halves
from mpox.statistics.estimate import Influence


def test_halves_share_no_patient_and_have_one_size():
    rng = np.random.default_rng(0)
    groups = [f"p{p}" for p, size in enumerate(rng.integers(1, 7, 30)) for _ in range(size)]
    pairs = halves.draw(groups, 50, rng)
    sizes = {len(side) for pair in pairs for side in pair}
    assert len(sizes) == 1 and len(groups) / 2 - 6 < sizes.pop() <= len(groups) // 2
    for one, other in pairs:
        assert len({*one, *other}) == len(one) + len(other)  # without replacement
        assert not {groups[i] for i in one} & {groups[i] for i in other}
    assert len({tuple(sorted(one)) for one, _ in pairs}) == 50


@pytest.mark.parametrize(
    ("groups", "size"), [("0123456789", 5), ("0123456789a", 5), ("pppppppp", 0)]
)
def test_single_pictures_are_halved_exactly_and_one_patient_is_not(groups, size):
    for one, other in halves.draw(list(groups), 8, np.random.default_rng(1)):
        assert len(one) == len(other) == size


def test_every_row_is_as_likely_as_any_other():
    groups = [f"p{i // 4}" for i in range(40)]
    pairs = halves.draw(groups, 2000, np.random.default_rng(3))
    seen = np.bincount(np.concatenate([one for one, _ in pairs]), minlength=40) / 2000
    assert seen == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("members", [1, 4])
def test_the_spread_is_that_of_the_mean_of_the_whole_set(members):
    """Variance 1 between patients and 0.25 between a patient's pictures: closed form."""
    rng = np.random.default_rng(4)
    groups = [f"p{i // members}" for i in range(120)]
    expected = halves.Z * np.sqrt((1 + 0.25 / members) / (120 / members))
    spreads = []
    for _ in range(40):
        values = np.repeat(rng.normal(size=120 // members), members) + rng.normal(0, 0.5, 120)
        pairs = halves.draw(groups, 100, rng)
        spreads.append(halves.spread(np.array([values[one].mean() for one, _ in pairs])))
    assert np.mean(spreads) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("size", [40, 25])
def test_the_noise_is_that_of_the_mean_of_one_set(size):
    """The measure is x · y on halves of x, so only the mean of y varies: closed form."""
    rng, ratios = np.random.default_rng(5), []
    names = [str(i) for i in range(80)]
    for _ in range(20):
        x, y = rng.normal(3, 9, 80), rng.normal(5, 2, 80)
        firsts = [one for one, _ in halves.draw(names, 300, rng)]
        sides = [(one[:size], other[:size]) for one, other in halves.draw(names, 300, rng)]
        differences = [
            x[a].mean() * (y[one].mean() - y[other].mean())
            for a, (one, other) in zip(firsts, sides, strict=True)
        ]
        influence = halves.influence(np.array(differences), sides, [""] * 80)
        ratios.append(influence.noise / abs(x.mean()))
    assert np.median(ratios) == pytest.approx(halves.Z * 2 / np.sqrt(80), rel=0.15)


def test_differences_between_strata_are_no_noise():
    """Two prompts whose pictures are far apart: only differences within a prompt count."""
    rng, noises = np.random.default_rng(6), []
    strata = ["light"] * 40 + ["dark"] * 40
    for _ in range(20):
        y = rng.normal(0, 2, 80) + np.repeat([0, 50], 40)
        sides = halves.draw([str(i) for i in range(80)], 300, rng)
        differences = np.array([y[one].mean() - y[other].mean() for one, other in sides])
        noises.append([halves.influence(differences, sides, each).noise for each in (strata, y)])
    within, total = np.median(noises, axis=0)
    assert total == pytest.approx(halves.Z * 25 / np.sqrt(80), rel=0.15)
    # Differences of halves between strata blur those within.
    assert halves.Z * 2 / np.sqrt(80) < within < total / 2


@pytest.mark.parametrize(
    ("kernel", "variance", "most"),
    [
        # The sample variance of a normal: 2σ⁴/(n−1). A measure that only pairs move, with variance
        # 2/n(n−1), is estimated too wide, because no estimate is below 0.
        (lambda x: (x[:, None] - x) ** 2 / 2, 2 / 59, 1.1),
        (lambda x: x[:, None] * x, 2 / (60 * 59), 1.7),
    ],
)
def test_influences_on_a_mean_of_pairs_have_its_variance(kernel, variance, most):
    rng, noises = np.random.default_rng(7), []
    for _ in range(200):
        table = kernel(rng.normal(size=60))
        np.fill_diagonal(table, 0)
        influence = halves.influence_of_pairs(table.sum(1), np.sum(table**2), [""] * 60)
        noises.append(influence.noise)
    assert 0.9 < np.mean(np.square(noises)) / (halves.Z**2 * variance) < most


def test_the_influence_on_a_difference_leaves_out_what_both_runs_share():
    """Two runs with the same seeds: only the part that each has for itself counts."""
    rng = np.random.default_rng(8)
    sides = halves.draw([str(i) for i in range(80)], 300, rng)
    shared, single = rng.normal(0, 9, 80), rng.normal(0, 1, (2, 80))

    def influence(y: np.ndarray) -> Influence:
        differences = np.array([y[one].mean() - y[other].mean() for one, other in sides])
        return halves.influence(differences, sides, [""] * 80)

    old, new = influence(shared + single[0]), influence(shared + single[1])
    assert new.minus(old).noise == pytest.approx(halves.Z * np.sqrt(2 / 80), rel=0.25)
    assert old.noise > 5 * new.minus(old).noise


def test_parts_of_a_large_set_give_the_noise_of_the_whole(monkeypatch):
    """A mean of 1,000 rows from 200 pairs of 50: closed form, plus the error of few draws."""
    monkeypatch.setattr(halves, "MOST", 50)
    rng, widths = np.random.default_rng(9), []
    names = [str(i) for i in range(1000)]
    for _ in range(10):
        y = rng.normal(0, 2, 1000)
        sides = [(a[:50], b[:50]) for a, b in halves.draw(names, halves.DRAWS, rng)]
        firsts = np.array([y[one].mean() for one, _ in sides])
        differences = firsts - [y[other].mean() for _, other in sides]
        widths.append(
            (
                halves.scale(50, 1000) * halves.spread(firsts),
                halves.influence(differences, sides, names).noise,
            )
        )
    truth = halves.Z * 2 / np.sqrt(1000)
    width, noise = np.mean(widths, axis=0)
    assert truth < width < 1.15 * truth and noise == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(("h", "groups", "scale"), [(500, 1000, 1), (499, 9999, 1), (500, 30, 1)])
def test_true_halves_and_few_patients_are_not_scaled(h, groups, scale):
    assert halves.scale(h, groups) == scale
