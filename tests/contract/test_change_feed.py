"""What every store does that tells of changes."""

from __future__ import annotations

from ai_cache_extproc.model import Hearing
from tests.contract.conftest import Clock, Outsider, Prefixed
from tests.support.shared_redis import PREFIX, until


class Listener:
    """Whatever was heard, in order."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.floods = 0
        self.hearings: list[Hearing] = []

    def changed(self, keys: tuple[str, ...] | None) -> None:
        if keys is None:
            self.floods += 1
        else:
            self.keys.extend(keys)

    def hearing(self, hearing: Hearing) -> None:
        self.hearings.append(hearing)

    async def heard(self, key: str) -> None:
        """Return once a change of this key was heard, and forget it."""
        await until(lambda: PREFIX + key in self.keys)
        self.keys.clear()


async def test_changes_by_others_are_told(feed: Prefixed, outsider: Outsider) -> None:
    """A value that somebody else writes, overwrites, deletes or lets expire is told by its name."""
    listener = Listener()
    feed.follow(listener)
    for command, *arguments in (("SET", "1"), ("SET", "2"), ("DEL",), ("SET", "3"), ("PEXPIRE", "-1")):
        outsider.do(command, "key", *arguments)
        await listener.heard("key")
    assert [Hearing.ALL] == listener.hearings


async def test_what_nobody_here_ever_read_is_told_too(feed: Prefixed, outsider: Outsider) -> None:
    """Every key under the prefix is told, on whatever server it is; one beyond the prefix is not."""
    listener = Listener()
    feed.follow(listener)
    names = [f"key{number}" for number in range(20)]
    for name in names:
        outsider.do("SET", name, "value")
    await until(lambda: len(listener.keys) >= len(names))
    assert {PREFIX + name for name in names} == set(listener.keys)


async def test_a_value_that_expires_is_told(feed: Prefixed, outsider: Outsider) -> None:
    """Redis says so when it comes across the key: here because somebody asks for it."""
    listener = Listener()
    feed.follow(listener)
    outsider.do("SET", "key", "value", "PX", 1)
    await listener.heard("key")
    await until(lambda: outsider.do("GET", "key") is None)
    await listener.heard("key")


async def test_what_this_store_does_is_told_as_well(feed: Prefixed) -> None:
    """Its own values and leases come back to it, so that all who share it see the same changes."""
    listener = Listener()
    feed.follow(listener)
    await feed.set("key", b"value", ttl_s=60)
    await listener.heard("key")
    await feed.claim_lease("lease", b"holder", ttl_s=60)
    await listener.heard("lease")
    await feed.release_lease("lease", b"holder")
    await listener.heard("lease")
    assert await feed.delete("key")
    await listener.heard("key")


async def test_a_flush_is_told_as_a_change_of_everything(feed: Prefixed, outsider: Outsider, clock: Clock) -> None:
    """Each server says for itself that all its keys have gone."""
    listener = Listener()
    feed.follow(listener)
    outsider.flush()
    await until(lambda: listener.floods >= len(clock.servers))
    assert [Hearing.ALL] == listener.hearings


async def test_a_lost_connection_is_told_and_so_is_the_next_one(feed: Prefixed, outsider: Outsider) -> None:
    """Between the two nothing is promised; after them changes are told as before."""
    listener = Listener()
    feed.follow(listener)
    outsider.cut()
    await until(lambda: len(listener.hearings) >= 3)
    assert [Hearing.ALL, Hearing.LOST, Hearing.ALL] == listener.hearings
    outsider.do("SET", "key", "value")
    await listener.heard("key")


async def test_who_follows_while_nothing_is_heard_is_told_so(feed: Prefixed, outsider: Outsider) -> None:
    """A listener begins with what holds at that moment."""
    first, second = Listener(), Listener()
    feed.follow(first)
    outsider.cut()
    await until(lambda: Hearing.LOST in first.hearings)
    feed.follow(second)
    await until(lambda: second.hearings[-1] is Hearing.ALL)
    assert Hearing.LOST is second.hearings[0]
