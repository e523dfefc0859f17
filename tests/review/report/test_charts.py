"""Charts as inline SVG."""

from xml.etree import ElementTree

from relay.review.report.blocks import Chart, Series, sentence
from relay.review.report.charts import draw

SVG = {"svg", "title", "desc", "g", "path", "rect", "text"}


def drawing(label="alice", horizontal=True):
    """Both drawings of a chart with two bars."""
    series = (Series("opened", "a", [3, 1]), Series("denied", "bad", [0, 2]))
    chart = Chart("Forwards", sentence("six in all"), [label, "bob"], series, lambda value: f"{value}", horizontal)
    html = draw(chart, lambda text: text if isinstance(text, str) else text.sentence)
    return ElementTree.fromstring(f"<both>{html}</both>")


def test_only_listed_elements_and_attributes_are_in_a_drawing():
    """No script, style or link of pygal is left."""
    elements = [element for svg in drawing() for element in svg.iter()]
    assert {element.tag for element in elements} == SVG
    names = {name for element in elements for name in element.attrib}
    assert names <= {"class", "viewBox", "role", "transform", "d", "x", "y", "rx", "ry", "width", "height"}


def test_each_chart_is_drawn_for_wide_and_for_narrow_pages():
    """Each with a title and a description for screen readers."""
    wide, narrow = drawing()
    assert [svg.get("class") for svg in (wide, narrow)] == ["chart wide", "chart narrow"]
    assert [(svg[0].text, svg[1].text) for svg in (wide, narrow)] == [("Forwards", "six in all")] * 2


def test_a_label_from_the_log_is_text():
    """Markup and control characters in it are written out."""
    wide, _ = drawing("<script>\x1b\u202e")
    texts = [element.text or "" for element in wide.iter("text")]
    assert "<script>\\x1b\\u{202e}" in texts


def test_a_long_label_is_cut_in_the_middle():
    """Beginnings and ends of names tell them apart."""
    wide, narrow = drawing("a" * 30 + "b" * 30)
    for svg, most in ((wide, 36), (narrow, 16)):
        (label,) = (element.text for element in svg.iter("text") if element.text and "…" in element.text)
        assert len(label) == most
        assert label.startswith("a")
        assert label.endswith("b")
