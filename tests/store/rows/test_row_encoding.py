"""The columns and dictionary texts of an event give back exactly its fields."""

from ipaddress import ip_network

import pytest

from relay.core.audit.event import Event
from relay.store.rows import row_encoding
from relay.store.rows.row_encoding import TARGET, WHO
from tests.audit_rows import Relay


def split_and_join(event):
    """The fields of an event after the way into a row and back."""
    placed = row_encoding.columns(event)
    rest, _ = row_encoding.rest(event.fields, placed)
    texts = [row_encoding.part(event.fields, WHO), row_encoding.part(event.fields, TARGET), rest]
    return row_encoding.joined(texts, event.id, placed)


def test_every_event_is_read_back():
    """All kinds of rows of a day come back with the same fields."""
    for event in Relay().day():
        assert split_and_join(event) == event.fields


@pytest.mark.parametrize("value", [True, None, "12", 1 << 63, -(1 << 63) - 1])
def test_a_value_that_fits_no_column_keeps_its_type(value):
    """A value of another type, or beyond 64 bits, stays in the JSON text."""
    fields = split_and_join(Event("0k3v9x2m4qz", 1, "forward.closed", {"sent": value}))
    assert fields == {"sent": value}
    assert type(fields["sent"]) is type(value)


def test_addresses_of_a_network_are_one_range():
    """The key of an address lies between those of its network's ends, and IPv4 and IPv6 do not mix."""
    low, high = row_encoding.network_keys(ip_network("192.168.1.0/24"))
    inside = [row_encoding.address_key(text) for text in ("192.168.1.0", "192.168.1.77", "192.168.1.255")]
    outside = [row_encoding.address_key(text) for text in ("192.168.0.255", "192.168.2.0", "c0a8:101::")]
    assert all(low <= key <= high for key in inside)
    assert not any(low <= key <= high for key in outside)
    assert row_encoding.address_key("remote") is None
