"""The page that ``graph(...).save("graph.html")`` writes: one file, nothing loaded from elsewhere.

Every text that comes from a program (file names, attributes, kernel sources) is escaped: in the
drawing as HTML, in the data as JSON that cannot end its script element, and the page's own
script puts texts into the document only as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib import resources

from lazytorch.viz.layout import Box, Drawing, draw
from lazytorch.viz.model import KernelInfo, Picture

TEMPLATE = "page.html"


def page_of(picture: Picture) -> str:
    """The whole page as text."""
    drawing = draw(picture)
    template = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    # Split before filling in: a text that contains a placeholder is left alone.
    head, rest = template.split("{{summary}}")
    top, rest = rest.split("{{drawing}}")
    bottom, tail = rest.split("{{data}}")
    data = json_for_script([_record(kernel) for kernel in picture.kernels])
    summary = escape(_summary(picture, drawing))
    return "".join((head, summary, top, svg_of(drawing), bottom, data, tail))


def _summary(picture: Picture, drawing: Drawing) -> str:
    if not picture.operations:
        return "nothing is pending"
    text = f"{len(picture.operations)} values, {len(picture.kernels)} kernels"
    return f"{text} ({drawing.note})" if drawing.note else text


def _record(kernel: KernelInfo) -> dict[str, object]:
    return {
        "name": kernel.name,
        "device": kernel.device,
        "operations": [[str(o), o.site, o.number in kernel.stored] for o in kernel.operations],
        "reasons": list(kernel.reasons),
        "bytes": kernel.bytes,
        "flops": kernel.flops,
        "launch": list(kernel.launch),
        "source": kernel.source,
    }


def json_for_script(value: object) -> str:
    """JSON that is safe inside a script element.

    >>> json_for_script("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def svg_of(drawing: Drawing) -> str:
    """The drawing as an SVG element."""
    places: dict[str, Box] = {}
    for box in drawing.boxes:
        places[box.key] = box
        places.update((child.key, child) for child in box.children)
    lines = [
        f'<svg id="drawing" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}" '
        f'width="{drawing.width:.0f}" height="{drawing.height:.0f}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    lines += _outer_boxes(drawing.boxes)
    lines += [
        _edge(places[start], places[end])
        for start, end in drawing.edges
        if start in places and end in places
    ]
    for box in drawing.boxes:
        lines += [_box(child) for child in box.children]
    return "\n".join([*lines, "</svg>"])


def _outer_boxes(boxes: Sequence[Box]) -> list[str]:
    return [_cluster(box) if box.children else _box(box) for box in boxes]


def _cluster(box: Box) -> str:
    return (
        f'<g class="kernel" data-kernel="{box.kernel}" tabindex="0">'
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="8"/>'
        f'<text x="{box.x + 10:.1f}" y="{box.y + 16:.1f}">{escape(box.lines[0])}</text></g>'
    )


def _box(box: Box) -> str:
    middle = box.x + box.width / 2
    step = box.height / (len(box.lines) + 1)
    texts = "".join(
        f'<text x="{middle:.1f}" y="{box.y + step * (row + 1) + 4:.1f}" '
        f'class="line{min(row, 1)}">{escape(line)}</text>'
        for row, line in enumerate(box.lines)
    )
    data = f' data-kernel="{box.kernel}" tabindex="0"' if box.kernel is not None else ""
    kind = "".join(c for c in box.kind if c.isalnum())
    return (
        f'<g class="box {kind}"{data}><rect x="{box.x:.1f}" y="{box.y:.1f}" '
        f'width="{box.width:.1f}" height="{box.height:.1f}" rx="4"/>{texts}</g>'
    )


def _edge(start: Box, end: Box) -> str:
    x1, y1 = start.x + start.width / 2, start.y + start.height
    x2, y2 = end.x + end.width / 2, end.y
    bend = max(abs(y2 - y1) / 2, 12)
    return (
        f'<path class="edge" marker-end="url(#tip)" d="M{x1:.1f} {y1:.1f}'
        f'C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"/>'
    )
