"""What has been purged, as a record, and for which entries it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ai_cache_extproc.cache.marks import FORGET_S, PURGES_MAX, SKEW_S, Marks, dumped, loaded
from ai_cache_extproc.cache.selection import Selection, facts_of, selection_from
from ai_cache_extproc.model import Identity
from tests.support.entries import DIGEST, FOREIGN, IDENTITY, NOW_S, SCOPE, entry_of


def test_facts_come_from_key_and_entry() -> None:
    """Scope, epoch and id stand in the key."""
    facts = facts_of(IDENTITY, entry_of(tags=("a",)))
    assert (SCOPE, 7, DIGEST.hex()[:32], "m", ("a",)) == (facts.scope, facts.epoch, facts.id, facts.model, facts.tags)
    assert 0 == facts_of(Identity(f"x:{SCOPE}:{DIGEST.hex()}", DIGEST, ""), entry_of()).epoch


@pytest.mark.parametrize(
    ("selection", "holds"),
    [
        pytest.param(Selection(), True, id="everything"),
        pytest.param(Selection(id=DIGEST.hex()[:32]), True, id="its id"),
        pytest.param(Selection(id="f" * 32), False, id="another id"),
        pytest.param(Selection(scope=SCOPE), True, id="its scope"),
        pytest.param(Selection(scope="f" * 16), False, id="another scope"),
        pytest.param(Selection(model="m"), True, id="its model"),
        pytest.param(Selection(model="M"), False, id="another model"),
        pytest.param(Selection(rule="default"), True, id="its rule"),
        pytest.param(Selection(rule=""), False, id="another rule"),
        pytest.param(Selection(tag="a"), True, id="its tag"),
        pytest.param(Selection(tag="ab"), False, id="another tag"),
        pytest.param(Selection(created_before_s=NOW_S), True, id="old enough"),
        pytest.param(Selection(created_before_s=NOW_S - 1), False, id="too young"),
        pytest.param(Selection(created_after_s=NOW_S), True, id="young enough"),
        pytest.param(Selection(created_after_s=NOW_S + 1), False, id="too old"),
        pytest.param(Selection(model="m", tag="b"), False, id="one of two"),
        pytest.param(Selection(foreign=True), False, id="foreign"),
    ],
)
def test_filters_have_to_agree(selection: Selection, holds: bool) -> None:
    """All of them, each about its own fact; whether the entry is at hand or only its facts."""
    kept = entry_of(tags=("a", "b2"))
    assert holds == selection.holds(facts_of(IDENTITY, kept))
    assert holds == selection.means(IDENTITY, kept)
    assert holds == Marks().purged(selection, NOW_S).forbid(IDENTITY, kept)


def test_foreign_entries_are_meant_by_name_alone() -> None:
    """A purge of our own entries leaves those of another program's layout, and the other way round."""
    assert not Selection().means(FOREIGN, entry_of())
    assert Selection(foreign=True).means(FOREIGN, entry_of())
    assert Selection(foreign=True, id=FOREIGN.id).means(FOREIGN, entry_of())
    assert not Selection(foreign=True, id="f" * 32).means(FOREIGN, entry_of())


def test_a_purge_holds_for_what_began_before_it() -> None:
    """An entry whose lookup knew of the purge is another answer."""
    marks = Marks().purged(Selection(model="m"), NOW_S)
    assert marks.forbid(IDENTITY, entry_of(purges=0))
    assert not marks.forbid(IDENTITY, entry_of(purges=1))
    later = marks.purged(Selection(model="other"), NOW_S)
    assert not later.forbid(IDENTITY, entry_of(purges=1))
    assert later.forbid(IDENTITY, entry_of(purges=0))


def test_a_flush_holds_for_everything_of_ours() -> None:
    """Whatever its facts are; purges before it need not be remembered, but for those of foreign entries."""
    foreign = Selection(foreign=True)
    marks = Marks().purged(Selection(model="m"), NOW_S).purged(foreign, NOW_S).flushed()
    assert (3, 3, [foreign]) == (marks.number, marks.epoch, [purge.selection for purge in marks.purges])
    assert marks.forbid(IDENTITY, entry_of(purges=2, model="other"))
    assert not marks.forbid(IDENTITY, entry_of(purges=3, model="m"))
    assert marks.forbid(FOREIGN, entry_of(purges=1))
    assert not marks.forbid(FOREIGN, entry_of(purges=2))


def test_so_many_purges_are_remembered() -> None:
    """Of those before, it is known that there were some, and when: what was made about then is not trusted."""
    marks = Marks()
    for number in range(PURGES_MAX + 2):
        marks = marks.purged(Selection(model=f"m{number}"), NOW_S + number)
    assert (PURGES_MAX, 2, NOW_S + 1) == (len(marks.purges), marks.floor, marks.floor_s)
    assert marks.forbid(IDENTITY, entry_of(purges=1, created_s=NOW_S + 1 - SKEW_S))
    assert not marks.forbid(IDENTITY, entry_of(purges=1, created_s=NOW_S - SKEW_S))
    assert not marks.forbid(IDENTITY, entry_of(purges=2, created_s=NOW_S + 1))
    assert marks.of(2) is None
    remembered = marks.of(3)
    assert remembered is not None
    assert Selection(model="m2") == remembered.selection


def test_a_purge_is_forgotten_once_nothing_is_left_of_before() -> None:
    """No entry lives that long."""
    marks = Marks().purged(Selection(model="a"), NOW_S).purged(Selection(model="b"), NOW_S + FORGET_S)
    assert [2] == [purge.number for purge in marks.purges]
    assert 2 == marks.number


def test_a_record_is_read_as_it_was_written() -> None:
    """With every filter there is."""
    selection = Selection("a" * 32, "b" * 16, "m", "r", "t", 1.5, 2.0)
    marks = Marks().purged(selection, NOW_S).purged(Selection(foreign=True), NOW_S).flushed().purged(selection, NOW_S)
    marks = replace(marks, floor=1, floor_s=NOW_S)
    assert marks == loaded(dumped(marks))
    assert Marks() == loaded(dumped(Marks()))


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"7",
        b"{}",
        b"[2,0,0,0,0,[]]",
        b'[1,"0",0,0,0,[]]',
        b"[1,0,0,0,0,[[1,2]]]",
        b'[1,0,0,0,0,[[1,2,{"colour":"red"}]]]',
        b'[1,0,0,0,0,[[1,2,{"model":7}]]]',
        b"[1,0,0,0,0,[[1,2,7]]]",
    ],
    ids=["empty", "number", "object", "version", "text", "short", "filter", "type", "no filter"],
)
def test_anything_else_is_no_record(record: bytes) -> None:
    """It is refused as a whole: half of it could mean less than was purged."""
    with pytest.raises(ValueError, match="not a record of purges"):
        loaded(record)


def test_a_selection_is_read_as_it_was_written() -> None:
    """Of filters, those that are set."""
    selection = Selection(model="m", created_before_s=1.0)
    assert {"model": "m", "created_before_s": 1.0} == selection.document()
    assert selection == selection_from(selection.document())
