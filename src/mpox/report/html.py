"""A page made from templates/, with its style and script inside: one file, no network."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mpox.core.errors import line

TEMPLATES = Path(__file__).parent / "templates"


def number(value: float, form: str = "%.3g") -> str:
    """A number for reading, with a minus sign; integers as they are by default."""
    shown = str(value) if isinstance(value, int) and form.endswith("g") else form % value
    return shown.replace("-", "−")


def render(template: str, **context: Any) -> str:
    """Render a page of `templates/` with the style and the script in it.

    Every value is escaped. A Content-Security-Policy blocks all loading and every script but this
    one, whatever a file name or a prompt contains.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = line
    environment.filters["number"] = number
    script = (TEMPLATES / "script.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=(TEMPLATES / "style.css").read_text(),
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        **context,
    )
