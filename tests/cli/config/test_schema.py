"""`relayctl schema` as it is typed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

Relayctl = Callable[..., Any]


@pytest.mark.parametrize(("document", "key"), [("relay", "listen"), ("policy", "zones"), ("network", "overlays")])
def test_schema(relayctl: Relayctl, document: str, key: str) -> None:
    """The schema of each document is JSON with its keys, and needs no site."""
    done = relayctl("schema", document)
    assert done.returncode == 0
    assert key in json.loads(done.stdout)["properties"]


def test_unknown_document(relayctl: Relayctl) -> None:
    """Another document is wrong usage."""
    assert relayctl("schema", "keys").returncode == 2
