"""The rate of a person: exact in the long run, each forward in turn, and free without a limit."""

import asyncio

import pytest

from relay.serve.worker.forward.rate_limiter import MIN_BURST, RateLimiter, RateLimiters

CHUNK = 1 << 16


class Clock:
    """A loop's clock and timers, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, asyncio.TimerHandle]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)

        def call_later(seconds: float, what: object, *arguments: object) -> asyncio.TimerHandle:
            timer = asyncio.TimerHandle(self.now + seconds, what, arguments, loop)  # type: ignore[arg-type]  # any callable
            self.timers.append((self.now + seconds, timer))
            return timer

        monkeypatch.setattr(loop, "call_later", call_later)

    def run(self, seconds: float) -> None:
        """Let so much time pass, with what is due in it."""
        end = self.now + seconds
        while due := sorted((at, id(timer), timer) for at, timer in self.timers if at <= end and not timer.cancelled()):
            at, _, timer = due[0]
            self.timers.remove((at, timer))
            self.now = max(self.now, at)
            timer._run()
        self.now = end
        self.timers = [(at, timer) for at, timer in self.timers if not timer.cancelled()]


class Bulk:
    """A forward that carries whatever it may, a chunk at a time."""

    def __init__(self, limiter: RateLimiter, chunk: int = CHUNK) -> None:
        self.limiter, self.chunk = limiter, chunk
        self.carried = 0

    def resume(self) -> None:
        """Carry on until told to wait."""
        while self.step():
            pass

    def step(self) -> bool:
        """One chunk; whether another may follow."""
        self.carried += self.chunk
        return self.limiter.charge(self, self.chunk)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time as the test wants it."""
    return Clock(monkeypatch)


async def test_without_a_rate_nothing_waits(clock: Clock) -> None:
    """The default costs a comparison and no more."""
    bulk = Bulk(RateLimiter())
    assert all(bulk.step() for _ in range(1000))
    assert clock.timers == []


async def test_one_forward_carries_the_rate(clock: Clock) -> None:
    """A mebibyte a second, over twenty seconds, within one chunk and the burst."""
    limiter = RateLimiter()
    limiter.change(1 << 20)
    bulk = Bulk(limiter)
    bulk.resume()
    clock.run(20)
    assert 20 << 20 <= bulk.carried <= (20 << 20) + (1 << 18) + 2 * CHUNK


async def test_many_forwards_carry_the_rate_together_and_alike(clock: Clock) -> None:
    """Five of them get a fifth each; what all carry is what one alone would."""
    limiter = RateLimiter()
    limiter.change(1 << 20)
    crowd = [Bulk(limiter) for _ in range(5)]
    for bulk in crowd:
        bulk.resume()
    clock.run(20)
    assert 20 << 20 <= sum(bulk.carried for bulk in crowd) <= (21 << 20)
    assert max(bulk.carried for bulk in crowd) - min(bulk.carried for bulk in crowd) <= 5 * CHUNK


async def test_small_ones_wait_no_longer_than_the_others_chunks(clock: Clock) -> None:
    """A terminal beside four bulk streams of the same person goes on several times a second."""
    limiter = RateLimiter()
    limiter.change(1 << 20)
    crowd = [Bulk(limiter) for _ in range(4)]
    keys = Bulk(limiter, 100)
    for bulk in crowd:
        bulk.resume()
    turns = []
    for _ in range(50):
        before = keys.carried
        keys.step()
        clock.run(0.5)
        turns.append(keys.carried > before)
    assert all(turns)


async def test_who_ends_frees_what_was_paid_for_it(clock: Clock) -> None:
    """A forward that ends while it waits, or after it was let go on, takes nothing with it."""
    limiter = RateLimiter()
    limiter.change(1 << 20)
    one, two = Bulk(limiter), Bulk(limiter)
    while one.step():
        pass
    two.step()
    limiter.leave(one)
    clock.run(10)
    limiter.leave(two)
    assert len(limiter._waiting) == 0
    clock.run(10)
    assert clock.timers == []


async def test_a_rate_that_is_taken_away_lets_all_go_on(clock: Clock) -> None:
    """After a reload without it nobody waits any more."""
    limiter = RateLimiter()
    limiter.change(MIN_BURST)
    bulk = Bulk(limiter, 10 * CHUNK)
    assert not bulk.step()
    bulk.chunk = 1
    called = []
    bulk.resume = lambda: called.append(True)  # type: ignore[method-assign]  # to see it called
    limiter.change(0)
    assert called == [True]
    assert bulk.step()


async def test_persons_are_apart_and_parts_are_of_the_rate(clock: Clock) -> None:
    """Each person has an own limiter; a part given by the supervisor is a part of the rate."""
    limiters = RateLimiters()
    limiters.change(1 << 20)
    alice, bob = limiters.acquire("alice"), limiters.acquire("bob")
    assert alice is not bob
    assert limiters.acquire("alice") is alice
    limiters.share({"alice": 0.25})
    assert (alice.rate, bob.rate) == (1 << 18, 1 << 20)
    bulk = Bulk(alice)
    bulk.step()
    alice.leave(bulk)
    assert limiters.rates(1.0) == {"alice": CHUNK}
    assert limiters.rates(1.0) == {}
    for person in ("alice", "alice", "bob"):
        limiters.release(person)
    clock.run(1)
    limiters.rates(1.0)
    assert limiters._limiters == {}


async def test_a_debt_outlives_the_forwards_that_made_it(clock: Clock) -> None:
    """Forwards that are opened and closed again and again carry no more than one that stays; then it is forgotten."""
    limiters = RateLimiters()
    limiters.change(1 << 20)
    carried = 0
    for _ in range(1000):  # what a pipe does that is closed after its first chunk
        bulk = Bulk(limiters.acquire("alice"))
        if bulk.limiter.charge(bulk, 0):
            bulk.step()
            carried += CHUNK
        bulk.limiter.leave(bulk)
        limiters.release("alice")
        clock.run(0.01)
    assert carried <= 11 << 20
    clock.run(1)
    limiters.rates(1.0)
    assert limiters._limiters == {}
