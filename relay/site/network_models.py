"""Models of network.yaml: the data of a network plan that the policy's zones do not have."""

import re
from typing import Annotated

from pydantic import BaseModel, Field, WithJsonSchema

from relay.errors import InputRejected
from relay.site.field_types import (
    AddressText,
    InterfaceText,
    NetworkText,
    PlaceName,
    StrictModel,
    choice,
    parsed_by,
    string_schema,
)
from relay.site.yaml import scalars

_NETWORK_ID = re.compile(r"[0-9a-f]{16}")


def _network_id(value: object) -> str:
    """ZeroTier's id of a network. One of digits only must be in quotes, else YAML reads a number."""
    cure = 'copy it from the web panel; it has 16 of 0-9 a-f: "8056c2e21c000001"'
    given = scalars.text(value, cure).lower()
    if not _NETWORK_ID.fullmatch(given):
        raise InputRejected(f"{given[:40]!r} is not a ZeroTier network id", cure)
    return given


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise InputRejected(f"{str(value)[:40]!r} is neither true nor false", "write true or false")
    return value


NetworkId = Annotated[
    str,
    parsed_by(_network_id),
    string_schema("ZeroTier's id of the network", "8056c2e21c000001", pattern="^[0-9a-fA-F]{16}$"),
]


class RelayEntry(StrictModel):
    """The relay host."""

    public: AddressText | None = Field(
        default=None, description="its address in the underlay; else `public` of relay.yaml", examples=["1.1.1.1"]
    )


class OverlayEntry(StrictModel):
    """The overlay of a zone."""

    network_id: NetworkId = Field(default="", description="left out: another overlay, joined by hand")
    network: NetworkText | None = Field(
        default=None, description="the overlay's own addresses", examples=["172.18.0.0/24"]
    )
    relay: AddressText | None = Field(
        default=None, description="the relay's address in the overlay", examples=["172.18.0.10"]
    )
    lan_interface: InterfaceText = Field(
        default="", description="the gateway's interface towards the LAN", examples=["eth0"]
    )
    lan_address: AddressText | None = Field(
        default=None, description="the gateway's address in the LAN", examples=["192.168.1.200"]
    )
    route: Annotated[str, choice("managed", "relay"), WithJsonSchema({"enum": ["managed", "relay"]})] = Field(
        default="managed",
        description="who sets the relay's route into the LAN: the overlay's controller, or the relay itself",
    )
    members: dict[PlaceName, AddressText] = Field(
        default={}, description="machines that join the overlay themselves, for method 2: name and overlay address"
    )


class NetworkFile(StrictModel):
    """network.yaml: the network that `relayctl net plan` plans; without it zones are only watched."""

    relay: RelayEntry = RelayEntry()
    moon: Annotated[bool, parsed_by(_truth), WithJsonSchema({"type": "boolean"})] = Field(
        default=False, description="the relay host is a ZeroTier root of its own too (a Moon)"
    )
    overlays: dict[PlaceName, OverlayEntry] = Field(default={}, description="by the name of the zone")


# the model of each section, from which a fault takes the nearest known key
ENTRIES: dict[str, type[BaseModel]] = {"relay": RelayEntry, "overlays": OverlayEntry}
