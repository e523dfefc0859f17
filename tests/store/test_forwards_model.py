"""Openings, closings, duplicates and restarts in any order, against a model of ten lines."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.core.audit.event import Event
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay
from tests.core.chain_check import first_break


class Forwards(RuleBasedStateMachine):
    """The store against a list of what must be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / FILE
        self.writer = AuditWriter(self.path, "relay")
        self.relay = Relay()
        self.connection = self.relay.connect()
        self.sent: list[Event] = []
        self.model: list[Event] = []
        self.open: dict[str, Event] = {}

    def send(self, *events: Event) -> None:
        """Append, and say to the model what must come of it."""
        self.writer.append(events)
        for event in events:
            forward = str(event.fields.get("forward"))
            if event.id in {known.id for known in self.model}:
                continue
            if event.name == "forward.opened":
                if forward in {known.fields["forward"] for known in self.model}:
                    continue
                self.open[forward] = event
            elif self.open.pop(forward, None) is None:
                continue
            self.model.append(event)
        self.sent += events

    @rule(others=st.integers(0, 2))
    def opening(self, others):
        """New forwards open."""
        self.send(*(self.relay.opened(self.connection) for _ in range(others + 1)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def closing(self, data):
        """A forward ends: an open one, or one that has ended before."""
        self.send(self.relay.closed(data.draw(st.sampled_from(self.sent))))

    @rule()
    def closing_of_nothing(self):
        """The end of a forward whose opening was never recorded."""
        self.send(self.relay.closed(self.relay.opened(self.connection)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def again(self, data):
        """Anything sent before comes again, as after a lost acknowledgement."""
        self.send(*data.draw(st.lists(st.sampled_from(self.sent), max_size=4)))

    @rule()
    def open_and_end_together(self):
        """A forward that ends in the group that opened it."""
        opened = self.relay.opened(self.connection)
        self.send(opened, self.relay.closed(opened), self.relay.closed(opened))

    @rule()
    def restart(self):
        """Another writer takes over."""
        self.writer.close()
        self.writer = AuditWriter(self.path, "relay")

    @invariant()
    def rows_are_as_modelled(self):
        """The rows are the model's, in order; what is open is what the model says; the chain holds."""
        with AuditReader(self.path) as reader:
            rows = reader.after(0, 100_000)
        assert [row.event for row in rows] == self.model
        assert first_break(rows) is None
        assert self.writer.open_forwards() == self.open

    def teardown(self):
        """Let the files go."""
        self.writer.close()
        self.directory.cleanup()


TestForwards = Forwards.TestCase
TestForwards.settings = settings(max_examples=25, stateful_step_count=25)
