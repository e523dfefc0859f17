"""Times of the log on the site's clocks."""

from datetime import datetime, tzinfo


def local_minute(us: int, zone: tzinfo) -> str:
    """A time (UTC microseconds) in a time zone, to the minute; the number itself where it is no date."""
    try:
        return f"{datetime.fromtimestamp(us // 1_000_000, zone):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"{us} us"
