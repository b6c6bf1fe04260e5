import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpox.errors import InputError
from mpox.measures import comparison
from stages.diff import diff

ROOT = Path(__file__).parents[2]
IDENTITY = {"features": "tiny", "split": "0123", "n_test": 9, "n_training": 0, "n_synthetic": 9}


def metrics(identity: dict | None = None, **changed: float) -> dict:
    return {
        "identity": {**IDENTITY, **(identity or {})},
        **{"fid": 50.0, "fid_noise": 3.0},
        **{"fid_excess": 10.0, "fid_excess_lo": 2.0, "fid_excess_hi": 18.0},
        **{"kid": 0.3, "kid_lo": 0.1, "kid_hi": 0.5, "kid_noise": 0.04, "kid_null": 0.05},
        **changed,
    }


@pytest.mark.parametrize(
    ("change", "beyond"), [(4.9, False), (5.1, True), (-4.9, False), (-5.1, True)]
)
def test_a_change_must_exceed_the_noise_of_both_sides(change, beyond):
    """Noises of 3 and 4 are a noise of 5."""
    new = metrics(fid_excess=10 + change, fid_noise=4.0)
    rows = {row.name: row for row in comparison.compare(metrics(), new)}
    assert rows["fid_excess"].noise == pytest.approx(5)
    assert rows["fid_excess"].beyond_noise is beyond
    assert rows["kid"].beyond_noise is False


def test_the_new_value_is_read_beside_its_null():
    rows = comparison.compare(metrics(), metrics(fid_excess=1.0, fid_excess_lo=-7.0))
    assert {row.name: row.new.like_real for row in rows} == {"fid_excess": True, "kid": False}


def test_a_null_that_is_a_rate_itself_has_noise_too():
    rate = {"copy_rate": 0.0, "copy_rate_lo": 0.0, "copy_rate_hi": 0.03, "copy_rate_noise": 0.015}
    for null_noise, like_real in ((0.0, False), (0.03, False), (0.045, True)):
        both = metrics(**rate, copy_rate_null=0.05, copy_rate_null_noise=null_noise)
        rows = {row.name: row for row in comparison.compare(both, both)}
        assert rows["copy_rate"].new.like_real is like_real


def test_markdown_names_what_changed():
    old, new = metrics(ssim=0.2), metrics(fid_excess=16.0, kid=0.31, ssim=0.3)
    lines = comparison.markdown(old, new, comparison.compare(old, new)).splitlines()
    assert lines[0].startswith("**Beyond noise: fid_excess.** Features of tiny, 9 test")
    excess, kid = (
        next(each for each in lines if each.startswith(f"| {name} "))
        for name in ("fid_excess", "kid")
    )
    assert "| 10 | 16 | +6 | ±4.2 | **beyond noise** |" in excess
    assert "| 0.3 | 0.31 | +0.01 | ±0.057 | within noise |" in kid
    assert "| ssim | 0.2 | 0.3 | +0.1 | | | | |" in lines
    assert {line.count("|") for line in lines[2:]} == {9}
    unchanged = comparison.markdown(old, old, comparison.compare(old, old))
    assert unchanged.startswith("**Beyond noise: nothing.**")


@pytest.mark.parametrize(
    ("name", "value"), [("features", "other"), ("split", "4567"), ("n_test", 8), ("n_synthetic", 8)]
)
def test_what_differs_in_identity_does_not_compare(name, value):
    with pytest.raises(InputError, match=f"{name}: {IDENTITY[name]} and {value}$"):
        comparison.compare(metrics(), metrics({name: value}))


def test_metrics_of_an_earlier_version_do_not_compare():
    with pytest.raises(InputError, match="the old metrics have no identity"):
        comparison.compare({"fid": 3.0}, metrics())


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits of metrics and a changed working tree."""

    def write(content: dict) -> None:
        (tmp_path / "metrics/evaluation.json").write_text(json.dumps(content))

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "metrics").mkdir()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    git("init", "-q", "-b", "main")
    for name in ("user.email", "user.name"):
        git("config", name, "test@example.org")
    for number, content in enumerate([metrics(), metrics(kid=0.5), metrics({"split": "4567"})]):
        write(content)
        git("add", "-A")
        git("commit", "-qm", "state")
        git("tag", f"v{number}")
    write(metrics({"split": "4567"}, fid_excess=30.0))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_revisions_and_the_working_tree(repository):
    assert diff().startswith("**Beyond noise: fid_excess.**")
    assert diff("v0", "v1").startswith("**Beyond noise: kid.**")
    with pytest.raises(InputError, match="split: 0123 and 4567"):
        diff("v1")
    with pytest.raises(InputError, match="nowhere"):
        diff("nowhere")
    (repository / "metrics/evaluation.json").write_text("<<<<<<< HEAD\n{}\n=======\n{}\n")
    with pytest.raises(InputError, match=r"the working tree: metrics/evaluation\.json: no JSON"):
        diff("v0")
    (repository / "metrics/evaluation.json").unlink()
    with pytest.raises(InputError, match=r"the working tree: has no metrics/evaluation\.json"):
        diff("v0")


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
