"""Bounded reads of a site's files."""

import os
from pathlib import Path

import pytest

from relay.site import files


def make(tmp_path: Path) -> Path:
    """A site with two policies, an editor's file, and two key files."""
    for directory in ("policies", "keys"):
        (tmp_path / directory).mkdir()
    for name in ("relay.yaml", "policies/b.yaml", "policies/a.yaml", "policies/.a.yaml.swp", "keys/alice.pub"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o640)
    (tmp_path / "keys" / "Not A Name.pub").write_text("")
    return tmp_path


def test_all_policies_are_read_and_persons_are_named_by_their_key_files(tmp_path: Path) -> None:
    """Hidden files and key files without a valid name are left out."""
    read = files.read(make(tmp_path))
    assert sorted(read.contents) == ["policies/a.yaml", "policies/b.yaml", "relay.yaml"]
    assert (read.persons, read.faults) == (frozenset({"alice"}), ())


def test_an_empty_site_has_no_faults(tmp_path: Path) -> None:
    """Missing files allow nothing, so they are no fault."""
    assert files.read(tmp_path) == files.Files({}, frozenset(), ())


@pytest.mark.parametrize("name", ["c.yml", "c.YAML"])
def test_a_policy_with_another_suffix_is_a_fault(tmp_path: Path, name: str) -> None:
    """Otherwise a deny rule in it would silently have no effect."""
    (make(tmp_path) / "policies" / name).write_text("")
    (fault,) = files.read(tmp_path).faults
    assert (fault.file, fault.cure) == (f"policies/{name}", "rename it to *.yaml")


def test_special_files_do_not_block_and_are_faults(tmp_path: Path) -> None:
    """A FIFO, a directory and a dangling link in place of a policy are reported."""
    site = make(tmp_path)
    os.mkfifo(site / "policies" / "fifo.yaml")
    (site / "policies" / "directory.yaml").mkdir()
    (site / "policies" / "link.yaml").symlink_to("nowhere")
    assert {(fault.file, fault.what) for fault in files.read(site).faults} == {
        ("policies/fifo.yaml", "not a file"),
        ("policies/directory.yaml", "not a file"),
        ("policies/link.yaml", "a dangling link"),
    }


def test_a_file_that_others_can_write_is_a_fault(tmp_path: Path) -> None:
    """Its content is not trusted."""
    (make(tmp_path) / "policies" / "a.yaml").chmod(0o666)
    (fault,) = files.read(tmp_path).faults
    assert "is writable by everyone" in fault.what


def test_the_number_and_the_total_size_of_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit the rest is not read, and a fault says so."""
    (make(tmp_path) / "policies" / "a.yaml").write_text("x" * 20)
    monkeypatch.setattr(files, "MOST_BYTES", 10)
    assert "larger than 10 bytes" in files.read(tmp_path).faults[0].what
    monkeypatch.setattr(files, "MOST_FILES", 1)
    assert "more than 1 files" in files.read(tmp_path).faults[0].what
