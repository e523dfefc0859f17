"""Where a thing of a site stands, in one word."""

import pytest

from relay.core.policy.site_item import SiteItem


@pytest.mark.parametrize(
    ("first", "last", "place"), [(0, 0, "keys/bob.pub"), (3, 3, "keys/bob.pub:3"), (3, 5, "keys/bob.pub:3-5")]
)
def test_the_place_names_the_file_and_its_lines(first, last, place):
    """The file alone, one line, or several."""
    assert SiteItem("key", "SHA256:x", "keys/bob.pub", first, last).place == place
