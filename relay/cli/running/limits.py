"""`relayctl doctor --limits`: usage of each limit in the running relay."""

from typing import Any

from relay.cli.output import print_json, table
from relay.errors import RelayError
from relay.serve import control_client
from relay.site.locate import Site

_SIZES = ("buffers", "rate_per_person")
_PER_SECOND = ("handshakes", "handshakes_penalised", "rate_per_person")


def show(site: Site, *, as_json: bool) -> None:
    """Print each limit with its use and who uses most. Raises RelayError when the relay cannot tell."""
    answer = control_client.call(site.state, {"do": "limits"}, timeout=10)
    if not answer.get("ok"):
        raise RelayError(str(answer.get("problem", "the relay refused")), "is it of the same version as relayctl?")
    rows: list[dict[str, Any]] = answer["limits"]
    if as_json:
        print_json(rows)
        return
    table(
        ("limit", "used", "of", "", "most used by"),
        [
            (
                row["limit"],
                _amount(row["limit"], row["used"]),
                _amount(row["limit"], row["most"]) + ("/s" if row["limit"] in _PER_SECOND else ""),
                f"{100 * row['used'] / row['most']:.0f} %" if row["most"] else "",
                row["by"],
            )
            for row in rows
        ]
        # not set and therefore not counted; the other limits always have a value
        + [("rate_per_person", "", "none", "", "")] * all(row["limit"] != "rate_per_person" for row in rows),
    )


def _amount(limit: str, number: int) -> str:
    if limit not in _SIZES:
        return str(number)
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number} B"
