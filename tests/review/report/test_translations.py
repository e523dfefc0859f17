"""The Chinese sentences of report and digest."""

import re
import string
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import relay.review
from relay.core.policy.site_item import SiteItem
from relay.review.activity_summary import DAY, ReportSpan
from relay.review.report.page import page
from relay.review.report.translations import CHINESE, Translator
from relay.store.preauth_counters import AttemptCount
from tests.audit_rows import NOON, Relay
from tests.audit_team import Team
from tests.review.report.test_page import report_data


def test_every_sentence_of_the_page_is_there_in_chinese():
    """No sentence in the source is missing in the table, none in the table is dead, and the gaps are the same."""
    source = "".join(
        path.read_text()
        for path in sorted(Path(relay.review.__file__).parent.rglob("*"))
        if path.suffix in (".py", ".html") and path.name != "translations.py"
    )
    joined = re.sub(r'"\n\s*"', "", source)
    for english, chinese in CHINESE.items():
        assert f'"{english}"' in joined or f"'{english}'" in joined, english
        gaps = [sorted(name for _, name, _, _ in string.Formatter().parse(text) if name) for text in (english, chinese)]
        assert gaps[0] == gaps[1], english
    seen = set()

    class Listening(dict):
        def get(self, sentence, default=None):
            seen.add(sentence)
            return super().get(sentence, default)

    events = [*Team(NOON, days=10, forwards=80).events()]
    held = [SiteItem("host", "fax", "policies/a.yaml", 1, 1, zone="office", address="192.168.1.250")]
    told = report_data(
        events, [AttemptCount(1, "192.0.2.0/24", "no-key", 5)], held, ReportSpan(NOON - 5 * DAY, NOON, ZoneInfo("UTC"))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.review.report.translations.CHINESE", Listening(CHINESE))
        html = page(told, "zh")
        page(report_data([Relay().event("server.started", version="1")]), "zh")
    assert not {sentence for sentence in seen if sentence not in CHINESE}
    assert '<html lang="zh-CN">' in html


def test_a_sentence_without_a_translation_stays_english():
    """So does every sentence of the English page."""
    assert Translator("zh")("no such sentence") == "no such sentence"
    assert Translator("en")("People") == "People"
    assert Translator("zh")("People") == "人员"
