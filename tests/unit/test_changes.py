"""News from the store reach the near copies and everyone who waits for another process."""

from __future__ import annotations

import asyncio

import pytest

from ai_cache_extproc.cache.changes import LOOK_HEARING_S, LOOK_S, Changes
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.model import Captured, Entry, Hearing, Identity, Mode

ENTRY = Entry("openai_chat", "m", "default", (Captured(Mode.JSON, "application/json", b"{}", 0, 10**9, 0),))
IDENTITY = Identity("aicache:0:s:d", bytes(32), "aicache:0:s:d:lease")
LONG_S = 30.0


def near() -> Near:
    """Near copies with what is heard of all changes."""
    kept = Near(bytes_max=10_000, ttl_s_max=60, clock=lambda: 1000.0)
    kept.hear(Hearing.ALL)
    return kept


def patient(changes: Changes) -> Changes:
    """One whose waits end with news alone."""
    changes.look_s = LONG_S
    return changes


def test_near_copies_of_what_changed_are_dropped() -> None:
    """A lease's change concerns no copy; None concerns them all."""
    kept = near()
    changes = Changes(kept)
    for key in ("a", "b", "c"):
        kept.put(key, ENTRY)
    changes.changed(("a", "b:lease", "unknown"))
    assert [None, ENTRY, ENTRY] == [kept.get(key) for key in ("a", "b", "c")]
    changes.changed(None)
    assert 0 == kept.entries


@pytest.mark.parametrize(
    "news",
    [(IDENTITY.key,), (IDENTITY.flight,), ("other", IDENTITY.key), None],
    ids=["entry", "lease", "among others", "everything"],
)
async def test_who_waits_is_woken_by_its_entry_or_its_lease(news: tuple[str, ...] | None) -> None:
    """Everyone who waits for that key is, however many they are."""
    changes = patient(Changes(near()))
    with changes.wait_for(IDENTITY) as one, changes.wait_for(IDENTITY) as other:
        waits = [asyncio.ensure_future(waiting.change(LONG_S)) for waiting in (one, other)]
        await asyncio.sleep(0)
        changes.changed(news)
        await asyncio.gather(*waits)
    assert {} == changes.waiting


async def test_other_news_wake_nobody() -> None:
    """A wait goes on over the changes of other keys."""
    changes = patient(Changes(near()))
    with changes.wait_for(IDENTITY) as waiting:
        wait = asyncio.ensure_future(waiting.change(LONG_S))
        await asyncio.sleep(0)
        changes.changed(("aicache:0:s:other",))
        await asyncio.sleep(0)
        assert not wait.done()
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)
    assert {} == changes.waiting


async def test_news_between_a_look_and_the_wait_are_not_missed() -> None:
    """Whoever began to wait for a key hears of it even before it awaits, once."""
    changes = patient(Changes(near()))
    with changes.wait_for(IDENTITY) as waiting:
        changes.changed((IDENTITY.key,))
        await waiting.change(LONG_S)
        wait = asyncio.ensure_future(waiting.change(LONG_S))
        await asyncio.sleep(0)
        assert not wait.done()
        changes.changed((IDENTITY.flight,))
        await wait


async def test_a_wait_ends_with_its_time() -> None:
    """Whichever is shorter ends it: what the caller has left, or the pause between two looks."""
    changes = patient(Changes(near()))
    with changes.wait_for(IDENTITY) as waiting:
        await waiting.change(0.001)
        changes.look_s = 0.001
        await waiting.change(LONG_S)


async def test_where_nothing_is_told_the_store_is_looked_at_often() -> None:
    """With news a look is only for what is told late; without, or with some lost, it is all there is."""
    kept = near()
    changes = Changes(kept)
    assert LOOK_S == changes.look_s
    for hearing, expected in (
        (Hearing.ALL, LOOK_HEARING_S),
        (Hearing.LOST, LOOK_S),
        (Hearing.ALL, LOOK_HEARING_S),
        (Hearing.NONE, LOOK_S),
    ):
        changes.hearing(hearing)
        assert (expected, hearing) == (changes.look_s, kept.hearing)
