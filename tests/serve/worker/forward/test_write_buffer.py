"""The queue of bytes for a slow target."""

from hypothesis import given
from hypothesis import strategies as st

from relay.serve.worker.forward import write_buffer


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 1 << 17)), max_size=60))
def test_bytes_come_out_in_the_order_they_went_in(steps: list[bytes | int]) -> None:
    """Bytes may be added, read and removed in any order: they come out as they went in, in few pieces."""
    one, model = write_buffer.WriteBuffer(), b""
    for step in steps:
        if isinstance(step, bytes):
            one.add(memoryview(step))
            model += step
        elif step % 2:
            data = bytes([step & 0xFF]) * step
            one.add(data)
            model += data
        else:
            head = b"".join(one.head(step))
            assert head == model[: len(head)]
            assert len(head) == min(step, len(model)) or len(one.head(step)) == write_buffer.PIECES
            one.drop(len(head) // 2)
            model = model[len(head) // 2 :]
        assert len(one) == len(model)
    assert b"".join(one.head(len(model) + 1)) == model[: sum(map(len, one.head(len(model) + 1)))]
    one.clear()
    assert not one
    assert one.head(1) == []
