"""How fast a forward flows, and since when it does not."""

from relay.serve.worker.forward_meter import ForwardMeter


def test_rates_are_over_the_time_between_two_looks() -> None:
    """Bytes a second each way; looks that come too soon after another do not count."""
    meter = ForwardMeter(100.0)
    meter.look(101.0, 5000, 1000)
    assert (meter.sent_rate, meter.received_rate) == (5000, 1000)
    meter.look(101.1, 6000, 1000)
    assert meter.sent_rate == 5000
    meter.look(103.0, 6000, 3000)
    assert (meter.sent_rate, meter.received_rate) == (500, 1000)
    meter.look(104.0, 6000, 3000)
    assert (meter.sent_rate, meter.received_rate) == (0, 0)


def test_idle_is_since_it_was_last_seen_to_flow() -> None:
    """From the beginning for one that never did; any byte ends it, also one seen by a look that comes too soon."""
    meter = ForwardMeter(100.0)
    assert meter.idle(107.0) == 7
    meter.look(110.0, 0, 0)
    assert meter.idle(110.0) == 10
    meter.look(110.2, 1, 0)
    assert meter.idle(110.2) == 0
    meter.look(111.0, 1, 0)
    meter.look(112.0, 1, 0)
    assert 0.9 < meter.idle(112.0) < 2
    assert meter.idle(111.0 - 5) == 0  # never negative
