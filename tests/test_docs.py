"""README and docs: what they link to is there, what they draw is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT

from mpox.statistics.estimate import Metrics

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")).replace(" ", "-")
        for title in titles
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_draws_the_pipeline_as_dvc_does():
    dvc = Path(sys.executable).with_name("dvc")
    drawn = subprocess.run([dvc, "dag", "--mermaid"], cwd=ROOT, capture_output=True, text=True)
    assert drawn.returncode == 0, drawn.stderr
    block = re.search(r"```mermaid\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block and block[1].strip() == drawn.stdout.strip()


def test_the_readmes_example_is_of_todays_headlines():
    text = (ROOT / "README.md").read_text()
    example = re.search(r"<!-- example.*?```\n(.*?)```\n<!-- end", text, re.DOTALL)
    assert example, "make docs writes it"
    head, *rows = example[1].splitlines()
    assert head.split() == ["Path", "Metric", "workspace", "example", "Change"]
    assert 0 < len(rows) <= 8
    shown = {tuple(row.split()[:2]) for row in rows}
    headlines = Metrics.read(ROOT / "metrics/evaluation.json").headlines
    assert shown <= {("metrics/evaluation.json", name) for name in headlines}


def test_the_committed_page_is_small_and_shows_phantoms():
    page = ROOT / "docs/report.html"
    assert page.stat().st_size < 1_000_000
    assert "models/tiny-sd" in page.read_text() and "data/phantom/photos" in page.read_text()


def test_the_map_names_every_module():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    modules = {file.stem for file in (ROOT / "src/mpox").rglob("*.py")} - {"__init__"}
    named = set(re.findall(r"`(\w+)`", text[text.index("| src/mpox/ | |") :]))
    assert modules <= named, modules - named
