"""Models of policies/*.yaml: the shape of zones, hosts, groups, rules and expectations.

A model checks a single entry. What entries mean together (unknown names, overlaps, clashes) is checked by
`relay.site.policy.compiler`.
"""

from typing import Annotated

from pydantic import BaseModel, Field

from relay.site.field_types import (
    AddressText,
    DaysText,
    DecisionText,
    HoursText,
    InterfaceText,
    MomentText,
    Name,
    NetworkText,
    OneOrMany,
    PlaceName,
    Port,
    Ports,
    StrictModel,
    Text,
    parsed_by,
    string_schema,
)
from relay.site.yaml import scalars


class ZoneEntry(StrictModel):
    """A network reached by one interface."""

    networks: Annotated[list[NetworkText], Field(min_length=1), OneOrMany()] = Field(
        description="the networks behind the interface", examples=[["192.168.1.0/24"]]
    )
    interface: InterfaceText = Field(description="exactly one interface must match", examples=["zt*"])
    gateway: AddressText | None = Field(
        default=None,
        description="the next hop the kernel must name for it; left out: any route",
        examples=["172.18.0.200"],
    )


class HostEntry(StrictModel):
    """A name for an address in a zone."""

    address: AddressText = Field(examples=["192.168.1.201"])
    zone: PlaceName = Field(examples=["office"])
    user: Annotated[str, parsed_by(scalars.user), string_schema("login name there, for client-config", "ubuntu")] = ""
    port: Port = Field(default=22, description="its sshd's port, for client-config")


class RuleEntry(StrictModel):
    """One rule: nothing matches = deny; a matching deny wins; else a matching allow."""

    name: Annotated[
        str, parsed_by(scalars.title), string_schema("what the rule is for; it stands in the audit log")
    ] = Field(examples=["ops reach the office by ssh"])
    allow: Annotated[list[Name], Field(min_length=1), OneOrMany()] | None = Field(
        default=None, description="persons and groups, or everyone", examples=[["ops"]]
    )
    deny: Annotated[list[Name], Field(min_length=1), OneOrMany()] | None = Field(
        default=None, description="persons and groups, or everyone", examples=[["everyone"]]
    )
    except_: Annotated[list[Name], Field(min_length=1), OneOrMany()] | None = Field(
        default=None, alias="except", description="persons and groups that a deny does not concern", examples=[["bob"]]
    )
    to: Annotated[list[Text], Field(min_length=1), OneOrMany()] = Field(
        description="hosts, HOST.ZONE, zones, networks, addresses, or patterns over host names", examples=[["office"]]
    )
    ports: Annotated[list[Ports], Field(min_length=1), OneOrMany()] | None = Field(
        default=None, description="ports and ranges; a deny without them concerns all ports", examples=[[22]]
    )
    from_: Annotated[list[NetworkText], Field(min_length=1), OneOrMany()] | None = Field(
        default=None, alias="from", description="where the person connects from", examples=[["203.0.113.0/24"]]
    )
    until: MomentText | None = Field(default=None, description="the rule ends with this day, or at this time")
    days: Annotated[list[DaysText], Field(min_length=1), OneOrMany()] | None = Field(
        default=None, examples=[["mon-fri"]]
    )
    hours: Annotated[list[HoursText], Field(min_length=1), OneOrMany()] | None = Field(
        default=None, examples=[["09:00-18:00"]]
    )


class ExpectEntry(StrictModel):
    """What a person must or must not reach; judged by `check` and before a policy is applied, as with a good key."""

    who: Name = Field(description="a person", examples=["alice"])
    to: Text = Field(description="a target as it is typed, with its port", examples=["remote:22"])
    verdict: DecisionText = Field(examples=["allow"])
    from_: AddressText | None = Field(default=None, alias="from", description="where the person connects from")
    at: MomentText | None = Field(default=None, description="the time; left out: at all times")


class PolicyFile(StrictModel):
    """One of policies/*.yaml; all of them are merged, in no order."""

    zones: dict[PlaceName, ZoneEntry] = Field(default={})
    hosts: dict[PlaceName, HostEntry] = Field(default={})
    groups: dict[Name, list[Name]] = Field(default={}, examples=[{"ops": ["alice", "bob"]}])
    rules: list[RuleEntry] = Field(default=[])
    expect: list[ExpectEntry] = Field(default=[])


# the model of each section of a policy file, from which a fault takes the nearest known key
ENTRIES: dict[str, type[BaseModel]] = {
    "zones": ZoneEntry,
    "hosts": HostEntry,
    "rules": RuleEntry,
    "expect": ExpectEntry,
}
