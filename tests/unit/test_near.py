"""The near copy: bounded in bytes, in time and by what is fresh."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.model import Captured, Entry, Hearing, Mode


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def entry(body: bytes = b"{}", *, expires_s: float = 5000.0) -> Entry:
    """An entry of one capture."""
    captured = Captured(Mode.JSON, "application/json", body, created_s=1000.0, expires_s=expires_s, elapsed_s=0.5)
    return Entry(dialect="openai_chat", model="m", rule="default", captures=(captured,))


def near(clock: Clock, *, bytes_max: int = 10_000, ttl_s_max: float = 60) -> Near:
    """An empty near copy."""
    return Near(bytes_max=bytes_max, ttl_s_max=ttl_s_max, clock=clock)


def test_an_entry_is_given_back() -> None:
    """What was put is what is got, as the same object."""
    kept, put = near(Clock()), entry()
    kept.put("key", put)
    assert kept.get("key") is put
    assert kept.get("other") is None


def test_a_later_entry_takes_the_place() -> None:
    """Putting a key again leaves only the later entry, and its weight."""
    kept, later = near(Clock()), entry(b"later")
    kept.put("key", entry(b"x" * 1000))
    kept.put("key", later)
    assert (later, 1, later.size_bytes + len("key")) == (kept.get("key"), kept.entries, kept.bytes)


def test_an_entry_is_dropped_after_its_time() -> None:
    """An entry is read again from the store `ttl_s_max` after it was put, however often it was used."""
    clock = Clock()
    kept = near(clock)
    kept.put("key", entry())
    clock.now_s += 59.9
    assert kept.get("key") is not None
    clock.now_s += 0.1
    assert kept.get("key") is None
    assert (0, 0) == (kept.entries, kept.bytes)


def test_an_entry_without_a_fresh_capture_is_dropped() -> None:
    """The end of the last capture ends the copy, even before `ttl_s_max`."""
    clock = Clock()
    kept = near(clock)
    kept.put("key", entry(expires_s=1010.0))
    clock.now_s = 1009.9
    assert kept.get("key") is not None
    clock.now_s = 1010.0
    assert kept.get("key") is None
    assert 0 == kept.entries


def test_a_clock_that_was_set_back_prolongs_nothing() -> None:
    """An entry that seems to come from the future is dropped."""
    clock = Clock()
    kept = near(clock)
    kept.put("key", entry())
    clock.now_s -= 1
    assert kept.get("key") is None
    assert 0 == kept.entries


def test_the_least_recently_used_makes_room() -> None:
    """The bound of bytes holds, and reading an entry keeps it."""
    weight = entry(b"x" * 1000).size_bytes + len("k0")
    kept = near(Clock(), bytes_max=3 * weight)
    for number in range(3):
        kept.put(f"k{number}", entry(b"x" * 1000))
    kept.get("k0")
    kept.put("k3", entry(b"x" * 1000))
    assert [True, False, True, True] == [kept.get(f"k{number}") is not None for number in range(4)]
    assert (3, 3 * weight) == (kept.entries, kept.bytes)


def test_an_entry_over_the_bound_is_not_put() -> None:
    """An entry larger than the whole bound leaves the others, but not an older one under its own key."""
    kept = near(Clock(), bytes_max=3000)
    kept.put("other", entry())
    kept.put("key", entry())
    kept.put("key", entry(b"x" * 3000))
    assert kept.get("key") is None
    assert kept.get("other") is not None


def test_a_bound_of_zero_keeps_nothing() -> None:
    """`bytes_max: 0` turns the near copy off."""
    kept = near(Clock(), bytes_max=0)
    kept.put("key", entry(b""))
    assert kept.get("key") is None
    assert (0, 0) == (kept.entries, kept.bytes)


def test_drop_and_clear() -> None:
    """Drop forgets one entry, if it is there; clear forgets all."""
    kept = near(Clock())
    for key in ("a", "b", "c"):
        kept.put(key, entry())
    kept.drop("a")
    kept.drop("a")
    assert 2 == kept.entries
    kept.clear()
    assert (0, 0) == (kept.entries, kept.bytes)


def test_while_changes_may_be_missed_nothing_is_kept() -> None:
    """With the connection lost what was kept is forgotten, and nothing new is kept until it is back."""
    kept = near(Clock())
    kept.hear(Hearing.ALL)
    kept.put("key", entry())
    kept.hear(Hearing.LOST)
    assert (None, 0) == (kept.get("key"), kept.entries)
    kept.put("key", entry())
    assert (0, Hearing.LOST) == (kept.entries, kept.hearing)
    kept.hear(Hearing.ALL)
    kept.put("key", entry())
    assert 1 == kept.entries


def test_a_copy_lives_until_it_changes_where_changes_are_heard() -> None:
    """Its own end is the only other one; where nothing is heard it is read again soon."""
    for hearing, lives in ((Hearing.ALL, True), (Hearing.NONE, False)):
        clock = Clock()
        kept = near(clock)
        kept.hear(hearing)
        kept.put("key", entry(expires_s=2000.0))
        clock.now_s = 1999.9
        assert lives is (kept.get("key") is not None)
        clock.now_s = 2000.0
        assert kept.get("key") is None


def test_copies_kept_under_another_rule_are_forgotten() -> None:
    """What lived briefly may be stale by the time changes are heard; hearing the same again forgets nothing."""
    kept = near(Clock())
    for hearing in (Hearing.ALL, Hearing.NONE, Hearing.ALL):
        kept.hear(hearing)
        assert 0 == kept.entries
        kept.put("key", entry())
        kept.hear(hearing)
        assert 1 == kept.entries


def test_keys_beyond_what_is_heard_live_briefly() -> None:
    """A key under a prefix of somebody else's choice is not told of, so its copy must not be trusted for long."""
    clock = Clock()
    kept = Near(bytes_max=10_000, ttl_s_max=60, clock=clock, heard=("aicache:",))
    kept.hear(Hearing.ALL)
    kept.put("aicache:key", entry())
    kept.put("higress:key", entry())
    clock.now_s += 60
    assert (True, False) == (kept.get("aicache:key") is not None, kept.get("higress:key") is not None)


def test_a_read_that_nothing_disturbed_is_kept() -> None:
    """What was read is copied, and nothing of the reading stays behind."""
    kept, read = near(Clock()), entry()
    with kept.reading("key") as reading:
        kept.drop("other")
        reading.keep(read)
    assert kept.get("key") is read
    assert {} == kept.watches


@pytest.mark.parametrize(
    "disturb",
    [lambda kept: kept.drop("key"), lambda kept: kept.clear(), lambda kept: kept.hear(Hearing.LOST)],
    ids=["changed", "flushed", "lost"],
)
def test_a_read_during_which_the_key_changed_is_not_kept(disturb: Callable[[Near], None]) -> None:
    """Its value may be the one from before; the next read begins anew."""
    kept = near(Clock())
    kept.hear(Hearing.ALL)
    with kept.reading("key") as reading:
        disturb(kept)
        kept.hear(Hearing.ALL)
        reading.keep(entry())
    assert kept.get("key") is None
    with kept.reading("key") as reading:
        reading.keep(entry())
    assert kept.get("key") is not None


def test_readers_of_one_key_are_judged_each_for_itself() -> None:
    """Of two who read at the same time, the one that began after the change may keep what it read."""
    kept, later = near(Clock()), entry(b"later")
    with kept.reading("key") as early:
        kept.drop("key")
        with kept.reading("key") as late:
            early.keep(entry(b"early"))
            assert kept.get("key") is None
            late.keep(later)
    assert kept.get("key") is later
    assert {} == kept.watches


def test_a_read_that_failed_leaves_nothing() -> None:
    """An error, or a caller that left, ends the watch of the key."""
    kept = near(Clock())
    with pytest.raises(ZeroDivisionError), kept.reading("key"):
        raise ZeroDivisionError
    assert {} == kept.watches
