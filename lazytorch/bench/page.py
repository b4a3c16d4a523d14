"""A report as one HTML file, pictures included."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

from lazytorch.bench import cold, table
from lazytorch.bench.catalog import GROUP_GOALS
from lazytorch.bench.results import Report

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; }
pre { background: #f6f6f4; font-size: 12px; line-height: 1.35; overflow-x: auto; padding: 1em; }
img { display: block; margin: 1em 0; max-width: 100%; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1em; }
dt { color: #666; } dd { margin: 0; }
"""


def page_of(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The whole page; ``pictures`` are PNG files by name."""
    facts = {"measured": report.created, **report.machine, **report.versions, **report.settings}
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>lazytorch bench, {escape(report.created)}</title><style>{STYLE}</style>",
        "<h1>lazytorch bench</h1>",
        "<dl>",
        *(f"<dt>{escape(str(k))}<dd>{escape(str(v))}" for k, v in facts.items()),
        "</dl>",
        *(f"<p>{escape(line)}</p>" for line in report.left_out),
    ]
    if report.outcomes:
        summary = "\n".join(table.summary(report, GROUP_GOALS))
        lines = [line for outcome in report.outcomes for line in table.lines_of(outcome)]
        text = "\n".join([table.heading(), *lines, "", table.legend()])
        parts += ["<h2>Workloads</h2>", _text(summary), _text(text)]
    for series in report.growth:
        lines = [line for outcome in series.outcomes for line in table.lines_of(outcome)]
        parts += [
            f"<h2>Growth: {escape(series.axis)}</h2>",
            _text("\n".join([table.heading(), *lines])),
        ]
    if report.cold:
        lines = [cold.heading(), *map(cold.line_of, report.cold)]
        parts += ["<h2>Fresh processes</h2>", _text("\n".join(lines))]
    if pictures:
        parts.append("<h2>Pictures</h2>")
    for name, picture in pictures.items():
        data = base64.b64encode(picture).decode()
        parts.append(f"<img alt='{escape(name)}' src='data:image/png;base64,{data}'>")
    return "\n".join(parts) + "\n</html>\n"


def _text(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
