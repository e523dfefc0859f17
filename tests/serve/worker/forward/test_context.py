"""What sessions and forwards share of their worker."""

import dataclasses

import pytest

from tests.serve.worker import parts


async def test_the_context_cannot_be_changed_by_a_session() -> None:
    """It is a value: a forward cannot exchange the authorizer or the audit client of others."""
    with parts.context() as context:
        with pytest.raises(dataclasses.FrozenInstanceError):
            context.audit = context.audit  # type: ignore[misc]  # what must fail
        assert context.now() == context.now_us() // 1_000_000 == 7
