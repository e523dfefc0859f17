"""Audit rows of commands: sent to the running relay, or written directly if none is running."""

import time
from collections.abc import Mapping
from typing import Any

from relay.core.audit.event import Event, Value
from relay.core.ids import Ids
from relay.errors import RelayError, RelayNotRunning
from relay.people import audit_actor
from relay.serve import control_client
from relay.site.locate import Site
from relay.store.writer import FILE, AuditWriter

NODE = "relay"  # the node's name in rows that a command writes itself, without compiling the site
SLOT = 511  # of ids: no worker has it, and the writer's lock excludes other commands
_IDS = Ids(SLOT)  # one generator for all rows of a command, else two rows within a tick would have the same id


def event(name: str, fields: Mapping[str, Value], why: str = "") -> Event:
    """An event at the current time, with the administrator's fields."""
    now_us = time.time_ns() // 1000
    return Event(_IDS.make(now_us), now_us, name, {**fields, **audit_actor.fields(why=why)})


def send(site: Site, question: Mapping[str, Any], events: list[Event]) -> dict[str, Any]:
    """Send a request and the rows to the running relay; write the rows if none is running.

    Returns its answer, else {"ok", "stopped": True, "problem"}. A row that cannot be written is a `problem` and not an
    exception, because the recorded change is already made.
    """
    raw = [[event.id, event.time, event.name, dict(event.fields)] for event in events]
    try:
        return control_client.call(site.state, {**question, "events": raw})
    except RelayNotRunning:
        return {"ok": True, "stopped": True, "problem": _write(site, events)}


def record(site: Site, name: str, fields: Mapping[str, Value], why: str = "") -> str:
    """Record one row; returns "" or why it could not be written."""
    return str(send(site, {"do": "record"}, [event(name, fields, why)]).get("problem", ""))


def _write(site: Site, events: list[Event]) -> str:
    try:
        site.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        writer = AuditWriter(site.state / FILE, NODE)
        try:
            writer.append_last(events)
        finally:
            writer.close()
    except RelayError as error:
        return error.what
    except OSError as error:
        return f"{error.filename or site.state}: {error.strerror}"
    return ""
