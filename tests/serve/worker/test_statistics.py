"""Statistics of a worker: the throughput of a forward."""

from relay.serve.worker.statistics import ThroughputMeter


def test_rates_are_over_the_time_between_two_measurements() -> None:
    """Bytes a second in each direction; a measurement too soon after another one does not count."""
    meter = ThroughputMeter(100.0)
    meter.measure(101.0, 5000, 1000)
    assert (meter.sent_rate, meter.received_rate) == (5000, 1000)
    meter.measure(101.1, 6000, 1000)
    assert meter.sent_rate == 5000
    meter.measure(103.0, 6000, 3000)
    assert (meter.sent_rate, meter.received_rate) == (500, 1000)
    meter.measure(104.0, 6000, 3000)
    assert (meter.sent_rate, meter.received_rate) == (0, 0)


def test_idle_time_is_since_the_last_bytes() -> None:
    """Or since the beginning; any byte ends it, also one that a measurement too soon after another one sees."""
    meter = ThroughputMeter(100.0)
    assert meter.idle(107.0) == 7
    meter.measure(110.0, 0, 0)
    assert meter.idle(110.0) == 10
    meter.measure(110.2, 1, 0)
    assert meter.idle(110.2) == 0
    meter.measure(111.0, 1, 0)
    meter.measure(112.0, 1, 0)
    assert 0.9 < meter.idle(112.0) < 2
    assert meter.idle(111.0 - 5) == 0  # never negative
