"""The page of a run: each section's module says what is in it, its template how it looks.

Nothing in it depends on the clock, the host or the commit: the same inputs give the same bytes.
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

# In the reader's order; each has `section(run)`, the context of templates/<name>.html.
SECTIONS = (words, look, measures, privacy, utility, reading, learning, data, provenance, paper)


def build(run: Run) -> str:
    """The page, one HTML file that needs no other and no network."""
    sections = {each.__name__.rpartition(".")[2]: each.section(run) for each in SECTIONS}
    return html.render("page.html", run=run, **sections)
