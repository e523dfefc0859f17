"""The upper bound of memory that forwards may use, whatever the settings say."""

import os

MACHINE_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def within(buffers: int, memory: int = MACHINE_BYTES) -> int:
    """The setting `buffers`, but at most a quarter of the machine's memory, so that a small one does not run out."""
    return min(buffers, memory // 4)
