"""The report: one file of HTML that requests nothing.

Its content security policy (a meta element) forbids every request and allows one style sheet and one script by their
hashes. So even a text that got past the escaping could neither run nor load anything.

Jinja2 escapes every value for HTML. Before that, `shown` writes out the control characters and bidi overrides of texts
from the log, and puts a text that is not ASCII into a <bdi> element, so that it cannot reorder the text around it.
"""

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from relay.core.escape import escape
from relay.review.digest import DigestItem
from relay.review.local_time import local_minute
from relay.review.report.blocks import Chart, ReportData, Sentence, Text, sentence
from relay.review.report.charts import draw
from relay.review.report.sections import sections
from relay.review.report.translations import Translator

# In every page: a file with this line may be replaced by the next report.
MARK = '<meta name="generator" content="relayctl audit report">'
LONGEST = 80  # characters of one text in a table: `audit show` has the whole
GAP = 120  # characters of one gap of a sentence


def page(data: ReportData, language: str = "en") -> str:
    """The page, in English or in Chinese (`zh`)."""
    translator = Translator(language)

    def translate(text: str | Sentence | DigestItem) -> Markup:
        """A sentence of the page in its language, the gaps filled in."""
        if isinstance(text, str):
            return Markup.escape(translator(text))
        gaps = {name: shown(str(value), GAP) for name, value in text.gaps.items()}
        return Markup.escape(translator(text.sentence)).format_map(gaps)

    def shown(text: Text, most: int = LONGEST) -> Markup:
        """A text from the log, at most so many characters of it; a sentence is translated."""
        if isinstance(text, Sentence):
            return translate(text)
        safe = Markup.escape(escape(text, most))
        return safe if safe.isascii() else Markup("<bdi>{}</bdi>").format(safe)

    def drawn(chart: Chart) -> Markup:
        return Markup(draw(chart, translate))  # noqa: S704 - built of listed elements only, every text escaped

    environment = Environment(
        loader=PackageLoader("relay.review.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(translate=translate, shown=shown, drawn=drawn)
    window = data.summary.window
    templates = resources.files("relay.review.report") / "templates"
    style, script = (templates.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    # S704 is silenced for the program's own texts (style, script, policy): nothing from the log is in them
    return environment.get_template("page.html").render(
        data=data,
        language="zh-CN" if language == "zh" else "en",
        mark=Markup(MARK),  # noqa: S704
        policy=Markup(policy),  # noqa: S704
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        span=f"{local_minute(window.since, window.zone)} – {local_minute(window.until, window.zone)} ({window.zone})",
        made=sentence("made {time} by relayctl audit report", time=local_minute(data.made, window.zone)),
        sections=sections(data),
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
