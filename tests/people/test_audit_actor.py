"""The administrator of a command, as fields of an audit row."""

import os

from relay.people import audit_actor


def test_the_uid_is_a_fact_and_sudo_a_hint() -> None:
    """The real uid comes from the kernel; SUDO_USER and the reason are the caller's text, escaped and cut."""
    found = audit_actor.fields({"SUDO_USER": "eve\x1b[2J" + "x" * 99}, why="a\nb")
    assert found["by_uid"] == os.getuid()
    assert "\x1b" not in str(found["by_sudo"])
    assert len(str(found["by_sudo"])) < 80
    assert found["why"] == "a\\x0ab"
    assert "by_sudo" not in audit_actor.fields({})


def test_one_word_for_a_line_of_revoked() -> None:
    """The name at log-in counts; whom it acted as stands behind it; unknown users are numbers; never a space."""
    assert audit_actor.word({"by_uid": 0}) == "root"
    assert audit_actor.word({"by_uid": 0, "by_login_uid": 0}) == "root"
    assert audit_actor.word({"by_uid": 0, "by_login_uid": 987_654_321}) == "uid987654321/root"
