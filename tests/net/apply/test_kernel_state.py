"""The settings that `up` found, and the paths that a setting may name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.net.apply import kernel_state


def test_what_settings_were_is_read_back() -> None:
    """One line each; of two for one setting the first counts, which is the older."""
    assert kernel_state.parse_saved_settings(
        b"net/ipv4/ip_forward 0\nnet/ipv4/conf/zt0/rp_filter 1\nnet/ipv4/ip_forward 1\n"
    ) == {
        "net/ipv4/ip_forward": "0",
        "net/ipv4/conf/zt0/rp_filter": "1",
    }


@pytest.mark.parametrize(
    "name",
    ["kernel/core_pattern", "net/../kernel/core_pattern", "net", "net/", "/net/x", "net/./x", "net//x"],
)
def test_no_setting_but_the_networks(name: str) -> None:
    """Nothing outside of /proc/sys/net is read or set, whatever a file or a plan says."""
    with pytest.raises(RelayError, match="setting of the network"):
        kernel_state.parse_saved_settings(f"{name} 1\n".encode())
    with pytest.raises(RelayError, match="not a setting of the network"):
        kernel_state.read_setting(name)


def test_a_setting_that_this_kernel_has_not_is_empty() -> None:
    """And setting it back to what it was is nothing to do."""
    assert kernel_state.read_setting("net/ipv4/no_such_setting") == ""
    assert kernel_state.write_settings([("net/ipv4/no_such_setting", "1")]) == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_settings_or_refused(content: bytes) -> None:
    """Nothing but RelayError comes out, and no name but one below net/."""
    try:
        found = kernel_state.parse_saved_settings(content)
    except RelayError:
        return
    assert all(name.startswith("net/") and ".." not in name.split("/") for name in found)
