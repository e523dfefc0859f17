"""A record that keeps what it is told instead of writing it down."""

from relay.core.audit.event import Event, check
from relay.core.settings import Settings
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.audit.group_commit import Answer


class Kept(AuditLog):
    """For tests of who records what."""

    def __init__(self) -> None:
        super().__init__(Settings, lambda: "")
        self.events: list[Event] = []

    def event(self, event: Event, answer: Answer | None = None) -> None:
        """Keep it; one that breaks the tables of events fails the test."""
        assert check(event) == ()
        self.events.append(event)

    def names(self) -> list[str]:
        """What happened, in order."""
        return [event.name for event in self.events]
