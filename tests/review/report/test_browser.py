"""The page in a real browser: Chromium, both themes, a telephone's width, the script, paper, and attackers' texts."""

from zoneinfo import ZoneInfo

import pytest

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
from tests.chromium import ATTACKS, Browser

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.xdist_group("chromium")]
WINDOW = ReportSpan(NOON - 30 * DAY, NOON + DAY, ZoneInfo("Asia/Shanghai"))
# Letters and what they stand on: the contrast of the two (WCAG 2.1, 1.4.3), with colours as the browser computes them
CONTRAST = """
(() => {
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.endsWith(', 0)')) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  let least = [99, ''];
  for (const node of document.querySelectorAll('p, td, th, dd, dt, li, h2, a, code, caption, summary, text')) {
    if (!node.textContent.trim()) continue;
    const style = getComputedStyle(node);
    const one = light(node.tagName === 'text' ? style.fill : style.color), other = light(ground(node));
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < least[0]) least = [contrast, node.outerHTML.slice(0, 120)];
  }
  return least;
})()
"""
LETTERS = """
Math.min(...[...document.querySelectorAll('svg text')].map(one => one.getBoundingClientRect().height).filter(Boolean))
"""
OUTSIDE = """
[...document.querySelectorAll('svg text')].filter(one => {
  const box = one.getBoundingClientRect(), frame = one.ownerSVGElement.getBoundingClientRect();
  return box.width && (box.right > frame.right + 1 || box.left < frame.left - 1);
}).map(one => one.textContent)
"""


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all of this file."""
    with Browser() as browser:
        yield browser


def written(path, events, attempts=(), holdings=()):
    """A page of these events."""
    past = SeenItems()
    past.meet({"person": "somebody"}, 1)
    account = collect_activity(chained(events), WINDOW, past, attempts=attempts)
    told = ReportData(
        *(account, digest_items(account, past, holdings), unused_items(holdings, account, past)),
        *("/etc/relay", "relay", "3f2a9c01b7de", NOON),
    )
    path.write_text(page(told))
    return path


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    """An ordinary page."""
    held = [SiteItem("host", "fax", "policies/a.yaml", 1, 1, zone="office", address="192.168.1.250")]
    events = Team(NOON, days=30, forwards=500).events()
    return written(
        tmp_path_factory.mktemp("month") / "report.html", events, [AttemptCount(1, "192.0.2.0/24", "no-key", 5)], held
    )


def test_it_asks_nobody_and_complains_of_nothing(browser, month):
    """The file itself is the only request; the console is silent: the policy fits the page."""
    browser.open(month)
    assert browser.requests == [month.as_uri()]
    assert browser.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_can_be_read(browser, month, theme):
    """Every text has a contrast of 4.5 at least with what it stands on, and the ground is of the theme."""
    browser.open(month)
    browser.look(width=1200, theme=theme)
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[theme]
    contrast, where = browser.run(CONTRAST)
    assert contrast >= 4.5, where


@pytest.mark.parametrize(("width", "shown"), [(375, "narrow"), (1200, "wide")])
def test_a_telephone_needs_no_scrolling_sideways(browser, month, width, shown):
    """The page is as wide as the window, in which the charts are drawn for it: letters of ten points, none cut off."""
    browser.open(month)
    browser.look(width=width)
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("[...document.querySelectorAll('svg')].filter(one => one.clientWidth > 0).length") == 4
    assert browser.run(f"document.querySelector('svg.{shown}').clientWidth") > 300
    assert browser.run(LETTERS) >= 10
    assert browser.run(OUTSIDE) == []
    assert browser.run("document.querySelector('.week').scrollWidth") <= width  # a week at a glance


def test_a_heading_sorts_its_table(browser, month):
    """By number, largest first, then smallest first; by text from A on; and it says so to a screen reader."""
    browser.open(month)
    table = "[...document.querySelectorAll('#people table')][0]"

    def press(column):
        browser.run(f"{table}.tHead.rows[0].cells[{column}].querySelector('button').click()")
        told = (
            f"[...{table}.tBodies[0].rows].map(row => row.cells[{column}].dataset.v ?? row.cells[{column}].textContent)"
        )
        return browser.run(told), browser.run(f"{table}.tHead.rows[0].cells[{column}].getAttribute('aria-sort')")

    values, said = press(1)
    assert (list(map(int, values)), said) == (sorted(map(int, values), reverse=True), "descending")
    values, said = press(1)
    assert (list(map(int, values)), said) == (sorted(map(int, values)), "ascending")
    values, said = press(0)
    assert (values, said) == (sorted(values), "ascending")
    assert browser.run(f"{table}.tHead.querySelectorAll('[aria-sort]').length") == 1
    assert browser.complaints == []


def test_paper(browser, month):
    """Printed in a dark room it is ink on white, without the links, with every table whole and what was folded away."""
    browser.open(month)
    browser.look(width=1200, theme="dark", media="print")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.run(
        "[...document.querySelectorAll('.scroll')].every(one => one.scrollHeight <= one.clientHeight + 1)"
    )
    folded = "document.querySelector('details table').getBoundingClientRect().height"
    assert browser.run(folded) > 100


def test_attackers_texts_are_texts(browser, tmp_path):
    """Nothing runs, nothing is asked for, nothing is hidden: they stand there to be read."""
    relay = Relay()
    events, held = [], []
    for number, text in enumerate(ATTACKS):
        mallory = relay.connect(text, login=text, client_version=text, fingerprint=f"SHA256:{number}")
        opened = relay.opened(mallory, zone=text, rule=text)
        opened.fields["asked"] = text
        events += [relay.login(mallory), opened, relay.closed(opened, text), relay.denied(mallory, text, text)]
        events += [relay.refused(mallory, text), relay.event("zone.down", zone=text, reason=text, detail=text)]
        events += [relay.event("key.revoked", person=text, fingerprint=text, why=text, by_sudo=text)]
        held += [SiteItem(kind, text, text, 1, 1, owner=text) for kind in ("person", "key", "host", "rule")]
    path = written(tmp_path / "report.html", events, [AttemptCount(1, text, text, 5) for text in ATTACKS], held)
    browser.open(path)
    browser.look(width=375)
    assert browser.requests == [path.as_uri()]
    assert browser.complaints == []
    assert browser.run("document.title").startswith("Who reached what")
    assert browser.run("document.querySelectorAll('script').length + document.querySelectorAll('style').length") == 2
    assert browser.run("document.querySelectorAll('img, iframe, base, form, link, object, embed, input').length") == 0
    assert "<script>document.title='bent'</script>" in browser.run("document.querySelector('#people').textContent")
    assert browser.run("document.documentElement.scrollWidth") == 375
    browser.run("for (const button of document.querySelectorAll('th button')) button.click()")
    assert browser.complaints == []
    assert browser.run("getComputedStyle(document.querySelector('main')).display") == "block"


def test_the_policy_holds_what_the_quoting_would_let_through(browser, tmp_path):
    """Were a text to become HTML one day, it could not run, load or send anything: the browser refuses, and says so."""
    path = written(tmp_path / "report.html", Relay().day())
    bent = (
        "<script>document.title='bent'</script><img src=http://192.0.2.1/x onerror=\"document.title='bent'\">"
        "<link rel=stylesheet href=http://192.0.2.1/y><p style='position:fixed'>x</p>"
    )
    path.write_text(path.read_text().replace("<main>", f"<main>{bent}"))
    browser.open(path)
    assert browser.run("document.title").startswith("Who reached what")
    assert browser.run("getComputedStyle(document.querySelector('main p')).position") == "static"
    assert len([said for said in browser.complaints if "Content Security Policy" in said]) >= 4
    assert all(request == path.as_uri() or "192.0.2.1" in request for request in browser.requests)
