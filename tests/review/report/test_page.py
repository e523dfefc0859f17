"""The page: closed, whole, and not to be bent by what stands in the log."""

import base64
import hashlib
import re
import unicodedata
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from relay.core.policy.site_item import SiteItem
from relay.review.activity_collector import collect_activity
from relay.review.activity_summary import DAY, ReportSpan
from relay.review.digest import digest_items
from relay.review.first_seen import SeenItems
from relay.review.report.blocks import ReportData
from relay.review.report.page import page
from relay.review.unused_items import unused_items
from relay.store.preauth_counters import AttemptCount
from tests.audit_rows import NOON, Relay, chained
from tests.audit_team import Team
from tests.chromium import ATTACKS

VOID = {"meta", "br"}
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "script",
        "body",
        "header",
        "main",
        "nav",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
    ),
    *("a", "dl", "div", "dt", "dd", "ul", "li", "code", "bdi", "span", "figure", "figcaption", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "button", "svg", "desc", "g", "rect", "path", "text"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "href", "id", "class", "role", "tabindex", "scope", "type"),
    *("viewbox", "x", "y", "rx", "ry", "width", "height", "d", "transform", "data-v", "aria-label", "aria-hidden"),
}


class Checked(HTMLParser):
    """Reads a page and raises for everything that ours never has."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.inside: dict[str, str] = {"script": "", "style": ""}
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        """Only tags and attributes of ours; links lead into the page."""
        assert tag in TAGS, tag
        self.counts[tag] = self.counts.get(tag, 0) + 1
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            assert name != "href" or value.startswith("#")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """In the order in which they were opened."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Script and style apart, all else is what a reader sees."""
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]] += data
        else:
            self.texts.append(data)

    def handle_comment(self, data):
        """There are none: one could hide a part of the page."""
        raise AssertionError(data)


def report_data(events, attempts=(), holdings=(), window=None):
    """The report of these events."""
    past = SeenItems()
    past.meet({"person": "somebody"}, 1)
    account = collect_activity(
        chained(events),
        window or ReportSpan(NOON - DAY, NOON + DAY, ZoneInfo("Asia/Shanghai")),
        past,
        attempts=attempts,
    )
    return ReportData(
        account,
        digest_items(account, past, holdings),
        unused_items(holdings, account, past),
        "/etc/relay",
        "relay",
        "3f2a9c01b7de",
        NOON,
    )


hostile = st.one_of(
    st.sampled_from(ATTACKS),
    st.text(st.characters(codec="utf-8"), max_size=60),
    st.text("<>&\"'`=/ \x00\x1b\x07\u202e\u2066\u200b\r\n-]{}$;", max_size=40),
    st.sampled_from(ATTACKS).map(lambda text: (text * 40)[:1500]),
)


# a page takes a tenth of a second: making a failing example small would take minutes
@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(st.lists(hostile, min_size=20, max_size=20), st.sampled_from(["en", "zh"]))
def test_nothing_in_the_log_bends_the_page(texts, language):
    """Whatever names, versions, targets, reasons hold: the same tags, one script, one style, no unprintable letter."""
    relay = Relay()
    take = iter(texts * 3).__next__
    mallory = relay.connect(take(), take(), login=take(), fingerprint=take(), client_version=take())
    opened = relay.opened(mallory, address=take(), zone=take(), rule=take(), rule_at=take())
    opened.fields["asked"] = take()
    events = [
        *(relay.login(mallory), opened, relay.closed(opened, take(), detail=take())),
        *(relay.denied(mallory, take(), take(), detail=take()), relay.refused(mallory, take())),
        *(
            relay.event("zone.down", zone=take(), reason=take(), detail=take()),
            relay.event("site.rejected", detail=take()),
        ),
        relay.event("key.revoked", person=take(), fingerprint=take(), why=take(), by_sudo=take(), file=take()),
        relay.event("ban.begun", source=take(), reason=take(), count=1),
    ]
    held = [
        SiteItem(kind, take(), take(), 1, 1, owner=take(), until=NOON // 1_000_000) for kind in ("key", "rule", "host")
    ]
    html = page(report_data(events, [AttemptCount(1, take(), take(), 5)], held), language)
    found = Checked(html)
    assert (found.counts["script"], found.counts["style"], found.counts["meta"]) == (1, 1, 5)
    assert not [
        letter for letter in html if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co") and letter != "\n"
    ]
    assert max(map(len, found.texts)) < 1000
    assert len(html) < 200_000


def test_the_policy_names_the_script_and_the_style_that_are_there():
    """Nothing else may run, load, be sent or be framed in: the hashes are those of the two texts in the page."""
    html = page(report_data(Relay().day()))
    found = Checked(html)
    hashes = {
        name: "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in found.inside.items()
    }
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy == (
        f"default-src 'none'; style-src '{hashes['style']}'; script-src '{hashes['script']}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "style=" not in html
    assert "http://" not in html
    assert "https://" not in html


def test_an_empty_window_is_a_page_too():
    """Every section says that there is nothing, and no chart is drawn of nothing but the columns."""
    html = page(report_data([Relay().event("server.started", version="0.1.0")]))
    text = " ".join(Checked(html).texts)
    for sentence in ("No forward was opened.", "No one used the relay.", "No forward was denied.", "No zone was down."):
        assert sentence in text


def test_a_busy_month_stays_small():
    """Tables and matrix are cut, and say how to see the rest: the page grows with people, not with forwards."""
    events = list(Team(NOON, days=30, forwards=3000).events())
    html = page(report_data(events, window=ReportSpan(NOON - 30 * DAY, NOON, ZoneInfo("Asia/Shanghai"))))
    Checked(html)
    assert len(html.encode()) < 500_000
    assert "more; all of them:" in html
