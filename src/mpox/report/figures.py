"""Figures as SVG inside the page, with real text and the page's colours."""

import io
import re
from typing import Any

from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.figure import Figure

# Placeholders for the page's colours, which differ between light and dark (style.css).
COLOURS = {
    "#000000": "currentColor",
    "#100001": "var(--series-1)",
    "#100002": "var(--series-2)",
    "#100003": "var(--series-3)",
    "#100004": "var(--series-4)",
    "#100005": "var(--faint)",
}
SERIES = list(COLOURS)[1:5]
FAINT = "#100005"
STYLE: Any = {
    "svg.fonttype": "none",  # text, not paths
    "svg.hashsalt": "mpox",  # otherwise its ids are random
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=SERIES),
    "grid.color": FAINT,
}


def figure(width: float, height: float) -> Figure:
    """An empty figure in inches, to be drawn within `matplotlib.rc_context(STYLE)`."""
    return Figure(figsize=(width, height), layout="constrained")


def svg(drawn: Figure, alt: str) -> Markup:
    """The figure as an <svg> element with a text for screen readers."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    drawn.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, value in COLOURS.items():
        text = text.replace(colour, value)
    # The page sets the width; the height follows from viewBox.
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1))
