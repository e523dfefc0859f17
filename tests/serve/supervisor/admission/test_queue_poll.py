"""Who has said something is asked of the kernel (relay/serve/supervisor/admission/queue_poll.py)."""

import os
import socket

from relay.serve.supervisor.admission.queue import QueuedSocket
from relay.serve.supervisor.admission.queue_poll import QueuePoll


def test_who_speaks_is_heard_once_and_nothing_is_read() -> None:
    """Only the one that spoke, only once, and its bytes are still there for the worker."""
    hearing = QueuePoll()
    pairs = [socket.socketpair() for _ in range(3)]
    guests = [
        QueuedSocket(theirs, f"192.0.2.{number}", 1, 0.0, spoke=False) for number, (_, theirs) in enumerate(pairs)
    ]
    for guest in guests:
        hearing.listen(guest)
    assert hearing.heard() == []
    pairs[1][0].send(b"SSH-2.0-x\r\n")
    assert hearing.heard() == [guests[1]]
    pairs[1][0].send(b"more")
    assert hearing.heard() == []
    assert guests[1].sock.recv(100) == b"SSH-2.0-x\r\nmore"
    for pair in pairs:
        for sock in pair:
            sock.close()
    hearing.close()


def test_who_has_left_the_line_is_not_heard() -> None:
    """Although a copy of its descriptor lives on in a worker, which epoll(7) would go on reporting."""
    hearing = QueuePoll()
    ours, theirs = socket.socketpair()
    guest = QueuedSocket(theirs, "192.0.2.1", 1, 0.0, spoke=False)
    hearing.listen(guest)
    copy = os.dup(theirs.fileno())
    hearing.forget(guest)
    theirs.close()
    ours.send(b"x")
    assert hearing.heard() == []
    hearing.forget(QueuedSocket(ours, "192.0.2.1", 1, 0.0))  # who was never listened to
    os.close(copy)
    ours.close()
    hearing.close()
