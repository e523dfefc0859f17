"""The configuration in force for a command, without a running configuration."""

from pathlib import Path

from relay.cli.config import config_in_force
from relay.site.locate import Site


def test_without_a_running_configuration_the_files_count(site: Path) -> None:
    """Groups, persons and targets come from the policy files."""
    known = config_in_force.load(Site(site, site / "state"))
    assert known.applied is None
    assert {"alice", "carol"} <= known.persons()
    assert [str(place) for place in known.reach("alice")] == ["remote:22", "192.168.1.0/24 in office:22"]
    assert known.notes == ()


def test_invalid_files_cause_a_note_and_no_exception(site: Path) -> None:
    """A command about keys works with a broken policy."""
    (site / "policies" / "a.yaml").write_text("zones: [")
    known = config_in_force.load(Site(site, site / "state"))
    assert known.reach("alice") == ()
    assert known.notes == ("the policy has faults, and nothing was applied before: relayctl check",)


def test_without_a_running_configuration_there_are_no_running_keys(site: Path) -> None:
    """revoke-key then looks at the files alone."""
    assert config_in_force.applied_keys(Site(site, site / "state")) == ()
