"""The classes that a connection asks have every method that it calls."""

import inspect

import pytest

from relay.serve.worker.authentication import Authentication
from relay.serve.worker.session import Session
from relay.serve.worker.ssh.handlers import AuthHandler, SessionHandler


@pytest.mark.parametrize(
    ("protocol", "handler"), [(AuthHandler, Authentication), (SessionHandler, Session)], ids=["before", "after log-in"]
)
def test_a_handler_has_the_methods_of_its_protocol(protocol: type, handler: type) -> None:
    """`Connection` casts asyncssh's owner to the protocol, so no type checker would notice a missing method."""
    methods = {name: method for name, method in vars(protocol).items() if inspect.isfunction(method)}
    names = {name for name in methods if not name.startswith("_")}
    assert names
    for name in names:
        ours = list(inspect.signature(getattr(handler, name)).parameters)
        assert ours == list(inspect.signature(methods[name]).parameters), name
