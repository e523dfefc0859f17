"""Log lines of events, in the form of sshd's.

Each line starts with fixed words, and every untrusted text in it is one word (spaces and control characters escaped),
so that lines can be parsed and not forged. Lines of failed log-ins have the address where packaging/fail2ban expects
it. The login name of an unauthenticated client is never logged, only its length and a salted hash, because people
type passwords there.
"""

import re
from dataclasses import dataclass

from relay.core.audit.event import Event, Value
from relay.core.escape import escape

_SPACES = re.compile(r"[^\S ]")
# kinds of connections that ended without authentication
_TIMEOUT = "timeout"
_BY = ("by_uid", "by_login_uid", "by_sudo", "why")
_JUNK = ("junk", "not-ssh", "bad-version", "protocol-error")


def event_line(event: Event) -> str:
    """The line of an event, without time and process, which the journal adds."""
    get = event.fields.get
    noun, _, verb = event.name.partition(".")
    match event.name:
        case "login.succeeded":
            return (
                f"Accepted publickey for {_word(get('person'))} {_from(event)} ssh2: {_word(get('fingerprint'))} "
                f"id {_word(get('connection'))}{_more(event, 'login', 'client_version', 'expires')}"
            )
        case "forward.opened":
            return f"forward opened: {_session(event)} to {_target(event)} id {_word(get('forward'))}"
        case "forward.denied":
            return (
                f"forward denied: {_session(event)} to {_target(event)} reason {_word(get('reason'))} "
                f"id {_word(event.id)}{_more(event, 'rule', 'rule_at', 'count')}{_detail(event)}"
            )
        case "forward.closed":
            return (
                f"forward closed: {_session(event)} to {_target(event)} reason {_word(get('reason'))} "
                f"sent {_word(get('sent'))} received {_word(get('received'))} for {_seconds(get('duration'))} "
                f"id {_word(get('forward'))}{_more(event, 'obstacle', *_BY)}{_detail(event)}"
            )
        case "zone.down":
            return f"zone down: {_word(get('zone'))} reason {_word(get('reason'))} id {_word(event.id)}{_detail(event)}"
        case "zone.up":
            return f"zone up: {_word(get('zone'))} after {_seconds(get('duration'))} id {_word(event.id)}"
        case "request.refused":
            return (
                f"request refused: {_session(event)} {_word(get('kind'))} {_word(get('type'))} id {_word(event.id)}"
                f"{_more(event, 'count')}{_detail(event)}"
            )
        case "connection.killed":
            return (
                f"connection killed: {_session(event)} id {_word(get('connection'))}"
                f"{_more(event, 'forwards', *_BY)}{_detail(event)}"
            )
        case "connection.closed":
            return (
                f"connection closed: {_session(event)} reason {_word(get('reason'))} for {_seconds(get('duration'))} "
                f"id {_word(get('connection'))}{_more(event, 'forwards')}{_detail(event)}"
            )
    known = [key for key in sorted(event.fields) if key != "detail"]
    return f"{_word(noun)} {_word(verb).replace('_', ' ')}:{_more(event, *known)} id {_word(event.id)}{_detail(event)}"


def preauth_line(
    kind: str, address: str, port: int, *, login: str = "", fingerprint: str = "", reference: str = ""
) -> str:
    """The line of a connection that ended without authentication.

    `login` is `length/hash` of the login name (see relay.store.preauth_counters). Address and port come last, as in
    sshd's lines.
    """
    peer = f"{_word(address)} port {port}"
    if kind == _TIMEOUT:
        start = f"Timeout before authentication for {peer} [preauth]"
    elif kind in _JUNK:
        start = f"Bad protocol from {peer} [preauth]"
    elif login:
        start = f"Connection closed by authenticating user {_word(login)} {peer} [preauth]"
    else:
        start = f"Connection closed by {peer} [preauth]"
    fingerprint = f" {_word(fingerprint)}" if fingerprint else ""
    return f"{start}: {_word(kind)}{fingerprint}{f' id {_word(reference)}' if reference else ''}"


@dataclass(slots=True)
class Throttle:
    """Rate limit of log lines, with a burst, that reports how many lines were dropped."""

    per_second: float
    burst: float
    _room: float = -1.0  # not used yet
    _at: int = 0
    _left_out: int = 0

    def lines(self, now_us: int, text: str) -> tuple[str, ...]:
        """The lines to write at `now_us` (of any clock): none, or `text`, after a notice of dropped lines."""
        if self._room < 0:
            self._room, self._at = self.burst, now_us
        self._room = min(self.burst, self._room + max(now_us - self._at, 0) * self.per_second / 1_000_000)
        self._at = now_us
        if self._room < 1:
            self._left_out += 1
            return ()
        self._room -= 1
        if not self._left_out:
            return (text,)
        notice = f"{self._left_out} lines left out; the audit log has what they said"
        self._left_out = 0
        return notice, text


def _word(value: Value) -> str:
    """A value as one word, without spaces or line ends."""
    if value is None or value == "":
        return "-"
    return _visible(str(value)).replace(" ", "\\x20")


def _visible(text: str) -> str:
    """Escaped text; spaces other than U+0020 are written out, because some parsers split words at them."""
    shown = escape(text)
    return shown if shown.isprintable() else _SPACES.sub(lambda space: f"\\u{{{ord(space[0]):x}}}", shown)


def _from(event: Event) -> str:
    return f"from {_word(event.fields.get('client'))} port {_word(event.fields.get('client_port'))}"


def _session(event: Event) -> str:
    return f"{_word(event.fields.get('person'))} {_word(event.fields.get('fingerprint'))} {_from(event)}"


def _target(event: Event) -> str:
    get = event.fields.get
    if not get("address"):
        return _word(get("asked"))
    address = str(get("address"))
    host = f"[{address}]" if ":" in address else address
    return f"{_word(get('asked'))} ({_word(host)}:{_word(get('port'))} in {_word(get('zone'))})"


def _more(event: Event, *keys: str) -> str:
    return "".join(
        f" {_word(key)} {_word(event.fields[key])}" for key in keys if event.fields.get(key) not in (None, "")
    )


def _detail(event: Event) -> str:
    detail = event.fields.get("detail")
    return f": {_visible(str(detail))}" if detail not in (None, "") else ""


def _seconds(value: Value) -> str:
    return f"{value / 1_000_000:.3f} s" if isinstance(value, int) else "-"
