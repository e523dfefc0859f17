"""The overlay's explanation of a broken leg."""

from relay.net.diagnose.diagnosis import Diagnosis
from relay.net.diagnose.path_verdict import Leg
from relay.net.diagnose.zerotier_membership import Membership

FAULT = Diagnosis("fault", "zerotier-stopped", "ZeroTier is not running", "systemctl start zerotier-one")
BROKEN = Leg("interface", "fault", "interface-missing: there is no interface 'zt0'", "ip -br link")


def test_a_broken_leg_of_the_overlay_gets_its_cause_and_cure() -> None:
    """The kernel's words stay first; the cure is the overlay's."""
    (leg,) = Membership(fault=FAULT).explained(iter([BROKEN]))
    assert leg.what == f"{BROKEN.what}; ZeroTier is not running"
    assert leg.cure == FAULT.cure


def test_other_legs_stay_as_they_are() -> None:
    """A leg that is well, a leg behind the gateway, and any leg without a fault of the overlay."""
    well, target = Leg("route", "ok", "goes"), Leg("target", "fault", "refuses", "start sshd")
    assert list(Membership(fault=FAULT).explained(iter([well, target]))) == [well, target]
    assert list(Membership().explained(iter([BROKEN]))) == [BROKEN]


def test_one_obstacle_is_said_once() -> None:
    """Where the overlay names the same obstacle only the cure changes."""
    fault = Diagnosis("fault", "interface-missing", "there is no interface 'zt0'", "systemctl start zerotier-one")
    (leg,) = Membership(fault=fault).explained(iter([BROKEN]))
    assert (leg.what, leg.cure) == (BROKEN.what, fault.cure)
