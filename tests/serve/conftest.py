"""The shared relay and its echo server, for every test of this folder."""

from tests.serve.shared import echo, one

__all__ = ["echo", "one"]
