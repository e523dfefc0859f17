"""The upper bound of memory that forwards may use."""

from relay.serve.memory_limit import MACHINE_BYTES, within


def test_forwards_use_a_quarter_of_the_machine_at_most() -> None:
    """The setting holds where it fits; on a machine of 1 GiB the default of 2 GiB becomes 256 MiB."""
    assert within(2 << 30, 1 << 30) == 256 << 20
    assert within(64 << 20, 1 << 30) == 64 << 20


def test_the_memory_of_the_machine_is_the_default() -> None:
    """Without a second argument the bound follows the memory that the kernel reports."""
    assert MACHINE_BYTES > 64 << 20
    assert within(1 << 62) == MACHINE_BYTES // 4
