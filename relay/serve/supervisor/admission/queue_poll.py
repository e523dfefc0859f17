"""Who of those that wait in line has said something? Asked of the kernel (epoll(7)); nothing is read here."""

import select

from relay.serve.supervisor.admission.queue import QueuedSocket

AVAILABLE = hasattr(select, "epoll")  # elsewhere all count as having spoken


class QueuePoll:
    """Listens to those who wait, until they have said something or leave the line."""

    def __init__(self) -> None:
        self._poll = select.epoll() if AVAILABLE else None
        self._guests: dict[int, QueuedSocket] = {}

    def listen(self, guest: QueuedSocket) -> None:
        """Listen to one that waits."""
        if self._poll is not None:
            self._guests[guest.sock.fileno()] = guest
            self._poll.register(guest.sock.fileno(), select.EPOLLIN)

    def heard(self) -> list[QueuedSocket]:
        """Those that have said something since the last time; no further word of theirs is of interest."""
        found = []
        for descriptor, _ in self._poll.poll(0) if self._poll is not None and self._guests else ():
            found.append(self._guests[descriptor])
            self.forget(found[-1])
        return found

    def forget(self, guest: QueuedSocket) -> None:
        """It leaves the line. Must come before its descriptor is closed or sent: a copy would go on being heard."""
        descriptor = guest.sock.fileno()
        if self._poll is not None and self._guests.get(descriptor) is guest:
            del self._guests[descriptor]
            self._poll.unregister(descriptor)

    def close(self) -> None:
        """Listen to nobody any more."""
        if self._poll is not None:
            self._poll.close()
            self._poll = None
