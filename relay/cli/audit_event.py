"""How does a command leave its row? Through the running relay; without one it takes the writer's lock itself."""

import time
from collections.abc import Mapping
from typing import Any

from relay.core.audit.event import Event, Value
from relay.core.ids import Ids
from relay.errors import NobodyAnswers, RelayError
from relay.people import audit_actor
from relay.serve import control_client
from relay.site.locate import Site
from relay.store.writer import FILE, AuditWriter

NODE = "relay"  # what a command calls this relay in a row that it writes itself: it does not compile the site
SLOT = 511  # of ids: no worker has it, and only one writer makes ids at a time
_IDS = Ids(SLOT)  # one for all rows of a command: two made within a tick would else be one id, and one row


def event(name: str, fields: Mapping[str, Value], why: str = "") -> Event:
    """An event of this moment, with who is at the keyboard."""
    now_us = time.time_ns() // 1000
    return Event(_IDS.make(now_us), now_us, name, {**fields, **audit_actor.fields(why=why)})


def tell(site: Site, question: Mapping[str, Any], events: list[Event]) -> dict[str, Any]:
    """Ask the running relay and hand it the rows; when nobody answers, write them.

    Gives its answer, or {"ok", "stopped": True, "problem"} without one: a row that cannot be written is a `problem`,
    never an exception, because what it tells of has been done already.
    """
    raw = [[one.id, one.time, one.name, dict(one.fields)] for one in events]
    try:
        return control_client.call(site.state, {**question, "events": raw})
    except NobodyAnswers:
        return {"ok": True, "stopped": True, "problem": _write(site, events)}


def record(site: Site, name: str, fields: Mapping[str, Value], why: str = "") -> str:
    """Leave one row; "" or why it could not be written."""
    return str(tell(site, {"do": "record"}, [event(name, fields, why)]).get("problem", ""))


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
