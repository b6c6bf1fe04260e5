"""README and docs: links, examples, the committed page and the map of modules."""

import re
from pathlib import Path

import pytest
from runs import ROOT

from mpox.statistics.estimate import Metrics

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")).replace(" ", "-")
        for title in titles
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readmes_example_has_the_current_headlines():
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
