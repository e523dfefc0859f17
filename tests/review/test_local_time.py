"""Times of the log on the site's clocks."""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from relay.review.local_time import local_minute
from tests.audit_rows import NOON


@pytest.mark.parametrize(
    ("us", "zone", "shown"),
    [
        (NOON, UTC, "2026-10-01 12:00"),
        (NOON + 59_999_999, UTC, "2026-10-01 12:00"),
        (NOON + 60_000_000, UTC, "2026-10-01 12:01"),
        (NOON + 12 * 3_600_000_000, ZoneInfo("Asia/Shanghai"), "2026-10-02 08:00"),
        (1 << 62, UTC, f"{1 << 62} us"),
    ],
)
def test_a_time_is_cut_to_its_minute(us, zone, shown):
    """The minute that has begun in the zone; a number that is no date is shown as a number."""
    assert local_minute(us, zone) == shown
