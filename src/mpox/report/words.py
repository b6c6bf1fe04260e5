"""Section "In words" of the page."""

from typing import Any

from mpox.report.run import Run


def section(run: Run) -> dict[str, Any]:
    """The context of templates/words.html."""
    return {}
