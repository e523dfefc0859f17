"""What a connection asks of the code that decides: `Authentication` before log-in, `Session` afterwards."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class AuthHandler(Protocol):
    """Decides about an unauthenticated client."""

    def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        """Whether this key is known (empty message: a mere offer), or has signed."""

    def in_turn(self, job: Callable[[], None]) -> None:
        """Run the job when the time budget for unauthenticated clients allows."""

    def bug(self, error: BaseException | None) -> None:
        """An unexpected exception ended the connection."""


class SessionHandler(Protocol):
    """Decides about channels and requests of an authenticated client."""

    forwards: int  # open or being opened

    def may_open(self) -> bool:
        """Whether one more forward is within the limits of a connection."""

    def lend(self) -> int:
        """The window of one more forward; 0: there is no memory left for it."""

    def forward(self, host: bytes, port: int, lent: int) -> Coroutine[Any, Any, Any]:
        """A coroutine that returns the pipe of an allowed forward, or raises ChannelOpenError."""

    def refused(self, kind: str, name: bytes) -> str:
        """Record a refused channel or request; the text for the client."""

    def bug(self, error: BaseException | None) -> None:
        """An unexpected exception ended the connection."""
