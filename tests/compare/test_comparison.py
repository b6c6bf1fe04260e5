import hashlib
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from scipy.stats import t, ttest_ind

from mpox.compare import comparison
from mpox.compare import page as page
from mpox.core.errors import InputError
from mpox.statistics.estimate import ALL, Estimate, Metrics
from stages.diff import diff

ROOT = Path(__file__).parents[2]
IDENTITY = {"features": "tiny", "split": "0123", "n_test": 9, "n_training": 0, "n_synthetic": 9}


def metrics(identity: dict | None = None, **changes: float | Estimate) -> Metrics:
    """`changes`: another value of a measure, or all of it."""
    measures = {
        "fid": Estimate(50.0),
        "fid_excess": Estimate(10.0, 2.0, 18.0, 0.0, 3.0),
        "kid": Estimate(0.3, 0.1, 0.5, 0.05, 0.04),
        "ssim": Estimate(0.2),
    }
    for name, change in changes.items():
        whole = isinstance(change, Estimate)
        measures[name] = change if whole else replace(measures[name], value=change)
    return Metrics({ALL: measures}, IDENTITY | (identity or {}))


@pytest.mark.parametrize(
    ("change", "beyond"), [(4.9, False), (5.1, True), (-4.9, False), (-5.1, True)]
)
def test_a_change_must_exceed_the_noise_of_both_sides(change, beyond):
    """Noises of 3 and 4 are a noise of 5."""
    new = metrics(fid_excess=Estimate(10 + change, 2.0, 18.0, 0.0, 4.0))
    rows = {row.name: row for row in comparison.compare([metrics()], [new])}
    assert rows["fid_excess"].noise == pytest.approx(5)
    assert rows["fid_excess"].beyond_noise is beyond
    assert rows["kid"].beyond_noise is False


def test_the_new_value_is_read_beside_its_null():
    rows = comparison.compare(
        [metrics()], [metrics(fid_excess=Estimate(1.0, -7.0, 18.0, 0.0, 3.0))]
    )
    assert {row.name: row.new.like_real for row in rows} == {"fid_excess": True, "kid": False}


def test_a_null_that_is_a_rate_itself_has_noise_too():
    for margin, like_real in ((0.0, False), (0.03, False), (0.045, True)):
        both = metrics(copy_rate=Estimate(0.0, 0.0, 0.03, 0.05, 0.015, margin))
        rows = {row.name: row for row in comparison.compare([both], [both])}
        assert rows["copy_rate"].new.like_real is like_real


def test_markdown_names_what_changed():
    old, new = metrics(ssim=0.2), metrics(fid_excess=16.0, kid=0.31, ssim=0.3)
    lines = comparison.markdown(old, new, comparison.compare([old], [new])).splitlines()
    assert lines[0] == (
        "**Sampling noise only: another training of the same settings may differ by more.** "
        "`dvc exp run --queue -S train.seed=1,2,3 && dvc queue start` makes replicates."
    )
    assert lines[2].startswith("**Beyond noise: fid_excess.** Features of tiny, 9 test")
    excess, kid = (
        next(each for each in lines if each.startswith(f"| {name} "))
        for name in ("fid_excess", "kid")
    )
    assert "| 10 | 16 | +6 | ±4.2 | **beyond noise** |" in excess
    assert "| 0.3 | 0.31 | +0.01 | ±0.057 | within noise |" in kid
    assert "| ssim | 0.2 | 0.3 | +0.1 | | | | |" in lines
    assert {line.count("|") for line in lines[4:]} == {9}
    unchanged = comparison.markdown(old, old, comparison.compare([old], [old]))
    assert "**Beyond noise: nothing.**" in unchanged


def test_means_of_replicates_by_welch():
    """By hand: means 10 and 14, variances 4 and 1 of three each, so 5/3 ± √(5/3) t(2.94)."""
    olds = [metrics(fid_excess=v) for v in (8.0, 10.0, 12.0)]
    news = [metrics(fid_excess=v) for v in (13.0, 14.0, 15.0)]
    row = {row.name: row for row in comparison.compare(olds, news)}["fid_excess"]
    freedom = (4 / 3 + 1 / 3) ** 2 / ((4 / 3) ** 2 / 2 + (1 / 3) ** 2 / 2)
    assert freedom == pytest.approx(50 / 17)
    assert row.change == pytest.approx(4)
    assert row.noise == pytest.approx(t.ppf(0.975, 50 / 17) * (5 / 3) ** 0.5)
    assert row.noise == pytest.approx(4.1554, abs=1e-3) and not row.beyond_noise
    peer = ttest_ind([13, 14, 15], [8, 10, 12], equal_var=False).confidence_interval()
    assert row.noise == pytest.approx((peer.high - peer.low) / 2)
    said = comparison.markdown(olds[0], news[0], [row])
    assert said.startswith(
        "**Trainings: 3 of the old and 3 of the new settings; their means, by Welch"
    )
    assert "| 10 (SD 2, n 3) | 14 (SD 1, n 3) | +4 | ±4.2 | within noise |" in said


def test_a_single_run_beside_replicates_varies_as_they_do():
    """Variance 4 of three and one: ± √(4/3 + 4) t(2)."""
    row, _ = comparison.compare([metrics(fid_excess=v) for v in (8.0, 10.0, 12.0)], [metrics()])
    assert row.noise == pytest.approx(t.ppf(0.975, 2) * (16 / 3) ** 0.5)
    assert "taken to vary" in comparison.basis([row]).said


def test_runs_of_the_same_seeds_are_held_against_each_other_picture_by_picture():
    """Influences 3, −3, 1, −1 and 2, −2, 0, 0: their differences have a variance of 4/3 each."""

    def of(pictures: list[float], seeds: tuple = ("1", "2", "3", "4")) -> dict:
        own = {"pictures": pictures, "strata": [0] * 4, "draws": [], "chance": 0.0, "twice": 0.0}
        return {"seeds": list(seeds), "measures": {"fid_excess": own}}

    one, other = of([3.0, -3.0, 1.0, -1.0]), of([2.0, -2.0, 0.0, 0.0])
    rows = comparison.compare([metrics()], [metrics()], (one, other))
    noise = {row.name: row.noise for row in rows}
    assert noise["fid_excess"] == pytest.approx(1.96 * (4 * 4 / 3) ** 0.5)
    assert noise["kid"] == pytest.approx(0.04 * 2**0.5)  # has no influences here
    assert "drew by the same seeds" in comparison.basis(rows).said
    for unlike in (of([2.0, -2.0, 0.0, 0.0], ("1", "2", "3", "5")), of([2.0] * 4, ("",) * 4), None):
        row, _ = comparison.compare([metrics()], [metrics()], (one, unlike))
        assert row.noise == pytest.approx(3 * 2**0.5)
        assert "same seeds" not in comparison.basis([row]).said


def test_identical_replicates_divide_by_nothing():
    same = [metrics()] * 3
    for row in comparison.compare(same, same):
        assert (row.noise, row.change, row.beyond_noise) == (0, 0, False)
    moved = [metrics(kid=0.31)] * 3
    row = {row.name: row for row in comparison.compare(same, moved)}["kid"]
    assert row.noise == 0 and row.beyond_noise
    change = page.Change(row)
    assert change.off == inf and change.verdict == "worse, beyond noise" and change.beyond_edge


@pytest.mark.parametrize(
    ("name", "value"), [("features", "other"), ("split", "4567"), ("n_test", 8), ("n_synthetic", 8)]
)
def test_what_differs_in_identity_does_not_compare(name, value):
    with pytest.raises(InputError, match=f"{name}: {IDENTITY[name]} and {value}$"):
        comparison.compare([metrics()], [metrics({name: value})])


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A commit of metrics in an earlier layout, three in today's, and a changed working tree."""

    def write(content: Metrics) -> None:
        content.write(tmp_path / "metrics/evaluation.json")

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "metrics").mkdir()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    git("init", "-q", "-b", "main")
    for name in ("user.email", "user.name"):
        git("config", name, "test@example.org")
    (tmp_path / "metrics/evaluation.json").write_text('{"identity": {"n_test": 9}, "fid": 50.0}')
    states = [None, metrics(), metrics(kid=0.5), metrics({"split": "4567"})]
    for tag, content in zip(("earlier", "v0", "v1", "v2"), states, strict=True):
        if content:
            write(content)
        git("add", "-A")
        git("commit", "-qm", "state")
        git("tag", tag)
    write(metrics({"split": "4567"}, fid_excess=30.0))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_revisions_and_the_working_tree(repository):
    assert "**Beyond noise: fid_excess.**" in diff()
    assert "**Beyond noise: kid.**" in diff("v0", "v1")
    with pytest.raises(InputError, match="split: 0123 and 4567"):
        diff("v1")
    with pytest.raises(InputError, match="nowhere"):
        diff("nowhere")
    (repository / "metrics/evaluation.json").write_text("<<<<<<< HEAD\n{}\n=======\n{}\n")
    with pytest.raises(InputError, match=r"the working tree: metrics/.*: invalid JSON"):
        diff("v0")
    (repository / "metrics/evaluation.json").unlink()
    with pytest.raises(InputError, match=r"the working tree: has no metrics/evaluation\.json"):
        diff("v0")


def test_a_run_in_another_layout_is_refused(repository):
    message = r"^earlier: metrics/evaluation\.json: is not in this version's layout"
    with pytest.raises(InputError, match=message):
        diff("earlier", "v1")


def test_the_command_exits_1_where_nothing_compares(repository):
    for revisions, code in ((["v0", "v1"], 0), (["v0", "v2"], 1)):
        done = subprocess.run(
            [sys.executable, "-m", "stages.diff", *revisions],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert ("kid" in done.stdout) is (code == 0)
        assert ("split: 0123 and 4567" in done.stderr) is (code == 1)


LOCK = """\
schema: '2.0'
stages:
  generate:
    cmd: draw
    deps:
    - path: photos
      md5: {photos}
    - path: src/draw.py
      md5: 0a1b
    params:
      params.yaml:
        seed: 7
        train.seed: {train}
        generate: {{seed: {draw}, guidance: {guidance}}}
    outs:
    - path: data/synthetic
      md5: {drawn}
  evaluate:
    cmd: measure
    deps:
    - path: data/synthetic
      md5: {drawn}
    outs:
    - path: metrics/evaluation.json
      md5: {metrics}
  report:
    cmd: show
    deps:
    - path: src/page.py
      md5: {page}
"""


def record(folder: Path, **given) -> None:
    """dvc.lock and metrics of a run; the kernel distance says which."""
    content = metrics(kid=given.pop("kid")).to_json()
    (folder / "metrics/evaluation.json").write_text(content)
    filled = dict(photos="aa", train="null", draw="null", guidance=1.5, drawn="cc", page="dd")
    md5 = hashlib.md5(content.encode()).hexdigest()
    (folder / "dvc.lock").write_text(LOCK.format(**filled | {"metrics": md5} | given))


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def replicated(repository):
    """Two settings, the second with three replicates: a commit, a branch, and an experiment."""
    runs = [
        ("old", {"kid": 0.30}),
        ("seven", {"kid": 0.31, "train": 7}),  # the run's own seed: no replicate
        ("new", {"kid": 0.50, "guidance": 3}),
        ("page", {"kid": 0.52, "guidance": 3, "train": 2, "drawn": "ee", "page": "ff"}),
        ("draw", {"kid": 0.54, "guidance": 3, "draw": 3, "drawn": "ff"}),
        ("exp", {"kid": 0.56, "guidance": 3, "train": 4, "draw": 4}),
        ("photos", {"kid": 0.9, "guidance": 3, "train": 5, "photos": "bb"}),
        ("stale", {"kid": 0.9, "guidance": 3, "train": 6, "metrics": "00"}),
    ]
    for name, given in runs:
        record(repository, **given)
        git(repository, "add", "-A")
        git(repository, "commit", "-qm", name)
        git(repository, "tag", name)
    # What `dvc exp run` keeps is a commit on no branch.
    git(repository, "update-ref", "refs/exps/ab/cdef/named", "exp")
    git(repository, "checkout", "-q", "-b", "side", "draw")
    git(repository, "branch", "-qf", "main", "new")
    for name in ("exp", "photos", "stale"):
        git(repository, "tag", "-d", name)
    return repository


def test_replicates_are_found_in_commits_branches_and_experiments(replicated):
    said = diff("old", "new")
    assert said.startswith("**Trainings: 1 of the old and 4 of the new settings")
    kid = next(line for line in said.splitlines() if line.startswith("| kid "))
    assert "| 0.3 | 0.53 (SD 0.026, n 4) | +0.23 |" in kid
    said = diff("seven", "old")
    assert said.startswith("**Sampling noise only")


def test_two_replicates_of_one_setting_stand_for_themselves(replicated):
    assert diff("new", "draw").startswith("**Sampling noise only")
