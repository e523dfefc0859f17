"""What does the page of a window look like, whole? One file of HTML that asks nobody for anything.

Its policy (a meta element) forbids every request, and allows one style sheet and one script by their hashes, so even
a text that got past the quoting (see markup) could neither run nor load anything.
"""

import base64
import hashlib
from html import escape as quoted
from importlib import resources

from relay.review.report.html import clock, shown
from relay.review.report.paragraphs import ReportData
from relay.review.report.sections import sections
from relay.review.report.translations import Translator

# In every page: what is known to be one of ours may be written over by the next.
MARK = '<meta name="generator" content="relayctl audit report">'


def page(findings: ReportData, language: str = "en") -> str:
    """The page, in English or in Chinese (`zh`)."""
    say = Translator(language)
    window = findings.account.window
    told = sections(findings, say)
    links = "".join(f'<a href="#{section.id}">{quoted(section.title)}</a>' for section in told)
    spoken = f"{clock(window.since, window.zone)} – {clock(window.until, window.zone)} ({window.zone})"
    made = say("made {time} by relayctl audit report").format(time=clock(findings.made, window.zone))
    body = "".join(
        f'<section id="{section.id}"><h2>{quoted(section.title)}</h2>{section.html}</section>' for section in told
    )
    here = resources.files("relay.review.report")
    style, script = (here.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    title = say("Who reached what")
    return (
        f'<!doctype html>\n<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer">{MARK}'
        f"<title>{quoted(title)}: {quoted(spoken)}</title><style>{style}</style></head><body>"
        f"<header><h1>{quoted(title)}</h1><p>{quoted(spoken)}</p>"
        f'<p class="soft">{shown(findings.node)} · {shown(findings.site, 200)} · {quoted(made)}</p></header>'
        f'<nav aria-label="{quoted(say("Contents"))}">{links}</nav><main>{body}</main>'
        f"<script>{script}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
