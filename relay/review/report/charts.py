"""Charts of the report as inline SVG, laid out by pygal (the extra `report`).

Only elements and attributes on a list are kept of pygal's output: no script, no style, no link. So the page's content
security policy needs no exception, and the colours of both themes come from the page's style sheet.
"""

import re
import sys
from collections.abc import Callable
from xml.etree import ElementTree

import pygal  # type: ignore[import-untyped]  # it has no types
from markupsafe import Markup
from pygal.style import Style  # type: ignore[import-untyped]  # likewise

from relay.core.escape import escape
from relay.review.report.blocks import Chart, Sentence, Series

# pygal looks for maps as plug-ins with an import hook of a form that Python 3.12 knows no more and 3.11 warns of at
# each import; we draw no maps.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]

WIDE, NARROW = 900, 340  # a desk or paper; a telephone. Scaling one drawing would make its letters unreadable.
_LETTER = 12
_KEPT = {
    "g": ("class", "transform"),
    "path": ("class", "d"),
    "rect": ("class", "x", "y", "width", "height", "rx", "ry"),
    "text": ("class", "x", "y", "transform"),
    "title": (),
}
_SHAPE = re.compile(r"[-_0-9a-zA-Z.,() ]*")
_LONG, _SHORT = re.compile(r"(-?\d+\.\d\d)\d+"), r"\1"  # hundredths of a point are enough, and half the size


def draw(chart: Chart, translate: Callable[[str | Sentence], str]) -> str:
    """The chart as two drawings, for wide and for narrow pages."""
    return _draw(chart, translate, WIDE) + _draw(chart, translate, NARROW)


def _draw(chart: Chart, translate: Callable[[str | Sentence], str], width: int) -> str:
    narrow, count = width == NARROW, len(chart.labels)
    height = 34 + 26 * max(count, 1) if chart.horizontal else 250
    order = slice(None, None, -1) if chart.horizontal else slice(None)  # pygal draws horizontal bars from below
    shown = [_cut(escape(label), 16 if narrow else 36) for label in chart.labels][order]
    drawing = (pygal.HorizontalStackedBar if chart.horizontal else pygal.StackedBar)(
        width=width,
        height=height,
        js=(),
        css=(),
        style=Style(label_font_size=_LETTER, major_label_font_size=_LETTER, font_family="sans-serif"),
        show_legend=False,
        margin=2,
        margin_right=18,  # half of the last label
        spacing=6,
        show_minor_x_labels=chart.horizontal,
        x_labels=shown,
        x_labels_major=None if chart.horizontal else shown[:: max(-(-count // (6 if narrow else 15)), 1)],
        value_formatter=lambda value: chart.show(int(value)),
        max_scale=4 if narrow else 8,
        min_scale=2,
        order_min=0,
        no_data_text="",
        truncate_label=-1,  # they are cut already, in the middle
    )
    for series in chart.series:
        drawing.add(series.kind, list(series.values)[order])
    kinds = {f"serie-{number}": series for number, series in enumerate(chart.series)}
    out = [f'<svg class="chart {"narrow" if narrow else "wide"}" viewBox="0 0 {width} {height}" role="img">']
    out.append(f"<title>{translate(chart.title)}</title><desc>{translate(chart.summary)}</desc>")
    for child in drawing.render_tree():
        if _name(child) == "g" and "graph" in child.get("class", ""):
            _write(child, out, kinds)
    return "".join(out) + "</svg>"


def _write(element: "ElementTree.Element", out: list[str], kinds: dict[str, Series]) -> None:
    tag, classes = _name(element), element.get("class", "").split()
    if tag not in _KEPT or {"overlay", "text-overlay", "tooltip-overlay", "titles"} & set(classes):
        return
    series = next((kinds[word] for word in classes if word in kinds), None)
    if series is not None:
        element.set("class", f"series {series.kind}")
    attributes_kept = {key: _LONG.sub(_SHORT, element.get(key, "")) for key in _KEPT[tag]}
    attributes = "".join(
        f' {key}="{value}"' for key, value in attributes_kept.items() if value and _SHAPE.fullmatch(value)
    )
    out.append(f"<{tag}{attributes}>")
    if tag in ("text", "title"):
        out.append(Markup.escape(element.text or ""))
    if "bar" in classes:
        texts = {child.get("class", ""): child.text or "" for child in element if _name(child) == "desc"}
        out.append(
            f"<title>{Markup.escape(' · '.join(filter(None, (texts.get('x_label'), texts.get('value')))))}</title>"
        )
    for child in element:
        _write(child, out, kinds)
    out.append(f"</{tag}>")


def _name(element: "ElementTree.Element") -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _cut(label: str, most: int) -> str:
    """Cut in the middle: the beginnings and the ends of names tell them apart."""
    if len(label) <= most:
        return label
    return f"{label[: most // 2]}…{label[-(most - most // 2 - 1) :]}"
