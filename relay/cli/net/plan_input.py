"""The network plan of a site, for the commands of `relayctl net`: zones of the policy, network.yaml, flags."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from relay.core.network_plan import NetworkPlan
from relay.core.policy.target import parse_spec
from relay.site.locate import Site

if TYPE_CHECKING:
    from relay.site.policy.compiler import Compiled


def read_plan(site: Site, flags: Mapping[str, object] | None = None) -> tuple[NetworkPlan, "Compiled"]:
    """The plan, and the policy it was made of: the site's files. Raises SiteInvalid with every fault of either.

    `flags` has the shape of network.yaml and stands above it. The relay's public address is that of relay.yaml where
    nothing else says it.
    """
    from relay.site import network_file
    from relay.site.policy import compiler

    compiled = compiler.load(site.path, now=int(time.time()))
    plan = network_file.read(site.path, compiled.policy.inventory.zones.values(), flags)
    return with_public(plan, compiled.settings.public), compiled


def with_public(plan: NetworkPlan, setting: str) -> NetworkPlan:
    """The plan with the address of relay.yaml's `public` where it says none itself and that is an address."""
    if plan.public is None and setting:
        with suppress(ValueError):  # a name: never looked up
            return replace(plan, public=ip_address(parse_spec(setting).host))
    return plan
