"""The page of a run: a module collects the content of each section, a template lays it out.

Nothing depends on the clock, the host or the commit: the same inputs give the same bytes.
"""

from mpox.report import (
    data,
    html,
    learning,
    look,
    measures,
    paper,
    privacy,
    provenance,
    reading,
    utility,
    words,
)
from mpox.report.run import Run

# In reading order; each has `section(run)`, the context of templates/<name>.html.
SECTIONS = (words, look, measures, privacy, utility, reading, learning, data, provenance, paper)


def build(run: Run) -> str:
    """The page as one self-contained HTML file."""
    sections = {module.__name__.rpartition(".")[2]: module.section(run) for module in SECTIONS}
    return html.render("page.html", run=run, **sections)
