"""Two questions meet in a partition only if everything but their windows is the same (S2, S4: no answer crosses over)."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.dialects.window import Wanted
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.keys.partition import partition_of, without
from ai_cache_extproc.meaning import Place, Window
from ai_cache_extproc.model import RequestHead

PAIRS = 10_000
KEYRING = Keyring(b"k" * 32, "aicache:")
DIALECT = OpenAIChat(sse_line_bytes_max=1024)
LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
BODIES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner)),
    min_size=1,
    max_size=3,
)


def places_in(body: Any, at: Place = ()) -> list[Place]:
    """Where texts stand."""
    if isinstance(body, str):
        return [at]
    steps = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [place for step, child in steps for place in places_in(child, (*at, step))]


def partition(
    body: dict[str, Any],
    places: tuple[Place, ...],
    *,
    scope: bytes = b"scope",
    path: str = "/v1/chat/completions",
    embedder: str = "e",
    keyring: Keyring = KEYRING,
) -> str:
    """Of a chat question."""
    head = RequestHead("POST", path, "llm.test", {})
    question = DIALECT.read({"model": "m", "messages": [{}], **body}, raw=b"", head=head)
    window = Window("", places)
    return partition_of(keyring, scope, question, window, head=head, rule=Rule(), answer_headers=(), embedder=embedder)


@given(BODIES, BODIES, st.randoms(use_true_random=False))
def test_equal_partitions_are_equal_but_for_the_windows(
    one: dict[str, Any], other: dict[str, Any], chance: random.Random
) -> None:
    """From the rest and the places everything can be told: so they meet if and only if both are equal."""
    first, second = ({"x": body} for body in (one, other))
    places = [tuple(chance.sample(found, chance.randint(0, len(found)))) for found in map(places_in, (first, second))]
    rests = [without(body, taken) for body, taken in zip((first, second), places, strict=True)]
    is_same = places[0] == places[1] and json.dumps(rests[0], sort_keys=True) == json.dumps(rests[1], sort_keys=True)
    found = [partition(body, taken) for body, taken in zip((first, second), places, strict=True)]
    assert (found[0] == found[1]) is is_same


@given(BODIES, st.randoms(use_true_random=False), st.text())
def test_what_stands_in_the_window_does_not_count(body: dict[str, Any], chance: random.Random, text: str) -> None:
    """Any other text in its place is another question of the partition; the body given is left as it is."""
    asked = {"x": body}
    found = places_in(asked)
    places = tuple(chance.sample(found, chance.randint(0, len(found))))
    other = copy.deepcopy(asked)
    for place in places:
        within: Any = other
        for step in place[:-1]:
            within = within[step]
        within[place[-1]] = text
    before = copy.deepcopy(asked)
    assert partition(asked, places) == partition(other, places)
    assert asked == before


def test_null_in_the_place_of_a_window_is_no_window() -> None:
    """What was left out stands in one place in one body and in another in the other: they do not meet."""
    one, other = {"a": "text", "b": None}, {"a": None, "b": "text"}
    assert partition(one, (("a",),)) != partition(other, (("b",),))
    assert partition({"x": {"0": "text"}}, (("x", "0"),)) != partition({"x": ["text"]}, (("x", 0),))


def conversation(chance: random.Random) -> tuple[bytes, dict[str, Any]]:
    """A caller, and a question with a little of everything that an embedding does not see."""
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")]
    kept = [turn for turn in turns if chance.random() < 0.5]
    said = [{"role": role, "content": chance.choice((text, text * 2, ""))} for role, text in kept]
    members: dict[str, Any] = {
        "model": chance.choice(("m", "m2", "m,")),
        "messages": [*said, {"role": "user", "content": "?"}],
    }
    for name, values in {"temperature": (0, 0.5, "0"), "seed": (1, "1"), "n": (1, 2), "user": ("a", "b")}.items():
        if chance.random() < 0.4:
            members[name] = chance.choice(values)
    return chance.choice((b"a", b"b", b"ab", b"")), members


def test_ten_thousand_pairs_of_scopes_models_prompts_and_histories() -> None:
    """No two that differ in any of these share a partition; whoever asks the same again does."""
    chance = random.Random(7)
    known: dict[str, str] = {}
    again = 0
    for _ in range(PAIRS):
        scope, members = conversation(chance)
        head = RequestHead("POST", "/v1/chat/completions", "llm.test", {})
        question = DIALECT.read(members, raw=b"", head=head) if isinstance(members.get("n", 1), int) else None
        assert question is not None
        window = DIALECT.window(question, Wanted(1, ("user",)))
        assert isinstance(window, Window)
        members["messages"][-1]["content"] = chance.choice(("What is a star?", "?"))
        named = partition_of(KEYRING, scope, question, window, head=head, rule=Rule(), answer_headers=(), embedder="e")
        whole = json.dumps([scope.hex(), without(members, window.places)], sort_keys=True)
        again += named in known
        assert known.setdefault(named, whole) == whole
    assert len(set(known.values())) == len(known)
    assert again > PAIRS / 10


def test_embedder_epoch_path_and_key_make_other_partitions() -> None:
    """Vectors of two embedders never meet, nor do questions from before and after a flush, or of two paths."""
    body, places = {"x": "text"}, (("x",),)
    found = {
        partition(body, places),
        partition(body, places, embedder="f"),
        partition(body, places, scope=b"other"),
        partition(body, places, path="/v2/chat/completions"),
        partition(body, places, keyring=Keyring(b"k" * 32, "aicache:", epoch=1, purges=1)),
        partition(body, places, keyring=Keyring(b"l" * 32, "aicache:")),
    }
    assert len(found) == 6
    assert all(len(each) == 32 for each in found)
