"""Notifications of changed links, addresses, routes and routing rules (rtnetlink(7)).

The content of a message is not used: after any message the state is queried again, so a lost or forged message costs
at most one query and never gives a wrong answer.
"""

import errno
import socket
import sys

from relay.errors import RelayError

# linux/rtnetlink.h: bit n-1 of nl_groups is group n; those that an older kernel does not have are left out by it
_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV4_RULE = 1 << 0, 1 << 4, 1 << 6, 1 << 7
_IPV6_ADDRESS, _IPV6_ROUTE, _IPV6_RULE, _NEXT_HOP = 1 << 8, 1 << 10, 1 << 18, 1 << 31
_GROUPS = _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV4_RULE | _IPV6_ADDRESS | _IPV6_ROUTE | _IPV6_RULE | _NEXT_HOP
_MOST = 512  # datagrams per call (under a millisecond): a flood of route changes is left to the next one


class ChangeEvents:
    """A socket that becomes readable when the kernel's tables change, in the network namespace that it was made in."""

    def __init__(self) -> None:
        """Raises RelayError on anything but Linux, OSError where the kernel or a sandbox refuses the socket."""
        if sys.platform != "linux":
            raise RelayError(f"changes of interfaces and routes are not told on {sys.platform}", "run it on Linux")
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, _GROUPS))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait on for reading."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read queued notifications without waiting; returns whether there was one. The rest of a flood stays queued.

        Raises OSError when the socket cannot be read any more.
        """
        changed = False
        for _ in range(_MOST):
            try:
                _, sender = self._socket.recvfrom(0)  # the rest of the datagram is dropped by the kernel
            except (BlockingIOError, InterruptedError):
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changed = True  # some were lost: they were changes, too
                continue
            changed |= sender[0] == 0  # the kernel itself
        return changed

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()
