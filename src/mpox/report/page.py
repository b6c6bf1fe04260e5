"""The page of a run: each section's module says what is in it, its template how it looks.

Nothing in it depends on the clock, the host or the commit: the same inputs give the same bytes.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mpox.errors import line
from mpox.report import data, learning, look, measures, paper, provenance, words
from mpox.report.run import Run

TEMPLATES = Path(__file__).parent / "templates"
# In the reader's order; each has `section(run)`, the context of templates/<name>.html.
SECTIONS = (words, look, measures, learning, data, provenance, paper)


def build(run: Run) -> str:
    """The page, one HTML file that needs no other and no network."""
    sections = {each.__name__.rpartition(".")[2]: each.section(run) for each in SECTIONS}
    return render("page.html", run=run, **sections)


def render(template: str, **context: Any) -> str:
    """A page of `templates/`, with the style and the script in it.

    Every value is escaped. A Content-Security-Policy lets nothing be loaded, and runs no script but
    this one, whatever a file's name or a prompt may hold.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = line
    script = (TEMPLATES / "script.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=(TEMPLATES / "style.css").read_text(),
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        **context,
    )
