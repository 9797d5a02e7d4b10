"""What a path costs: `python -m bench paths`. Processor time, best of some rounds; ratios are to orjson
reading the same body once.

A chat body of 200 messages; hostile bodies of 4 MiB under every hostile path, of which the slowest is shown; JSONPath.
"""

from __future__ import annotations

import argparse
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial

import orjson

from ai_cache_extproc.paths import JSONPATH_NODES_MAX, Path, PathBudget, compile_path
from bench.table import table

ROUNDS = 5
SECONDS_PER_ROUND = 0.1
DEFAULT_PATH = "messages.@reverse.0.content"
DEFAULT_TARGET_US = 5.0
HOSTILE_TARGET_MS = 5.0
HOSTILE_BYTES = 4 << 20

CHAT_PATHS = (
    DEFAULT_PATH,
    "model",
    "messages.#",
    'messages.#(role=="user").content',
    'messages.#(role=="user")#|@reverse.0.content',
    "messages.0",
    "messages.@reverse.0",
    "messages.#.content",
)
JSONPATHS = (
    "$.messages[0].content",
    "$.messages[-1:].content",
    "$.messages[*].content",
    "$..content",
    "$.messages[?(@.role == 'user')].content",
    "$..[?(@.role == 'user')]",
)
HOSTILE_PATHS = (
    *(
        "a",
        "a.0",
        "a.@reverse.0",
        "zz",
        "a.#",
        "a.#.b",
        "a.#(b==2)#",
        'a.#(%"*x*y*")#',
        'a.#(%"*?x?y*")#',
        "a.@flatten",
    ),
    *(
        'a.@flatten:{"deep":true}',
        "@ugly",
        "@pretty",
        '@pretty:{"sortKeys":true}',
        "@valid",
        "@tostr",
        "@keys",
        "@dig:b",
    ),
    *(
        "a.@fromstr",
        "*.b",
        "*x*y.b",
        "?*?*?*z.b",
        "..#",
        "..#.a",
        "{a,b:a,c:a}",
        "[@this,@this,@this]",
        "a|b",
        "a.@join",
    ),
    *(
        "a.#(#(#(#>1)))",
        "@ugly|@ugly|@ugly|@ugly",
        ".".join("a" * 1000),
        ".".join("#" * 1000),
        "a." + "#(" * 8 + "0." * 900 + ")" * 8,
    ),
    *(
        "|".join(["@tostr"] * 250),
        "|".join(["@reverse"] * 200),
        "{" + ",".join("a" * 1000) + "}",
        "*a" * 1000,
        "?" * 2000,
    ),
)


def microseconds(call: Callable[[], object]) -> float:
    """The least processor time of one call over the rounds: what others on the machine take does not count."""
    timer = timeit.Timer(call, timer=time.thread_time)
    once = max(timer.timeit(1), 1e-9)
    calls = max(1, int(SECONDS_PER_ROUND / once))
    return min(timer.repeat(ROUNDS, calls)) / calls * 1e6


def hostile_microseconds(call: Callable[[], object]) -> float:
    """The same for calls that take milliseconds, of which there are many."""
    return min(timeit.repeat(call, timer=time.thread_time, number=1, repeat=ROUNDS)) * 1e6


def chat(messages: int) -> dict[str, object]:
    """A chat request of so many messages."""
    text = "and then she asked how it works, " * 6
    return {
        "model": "gpt-4o",
        "messages": [
            {"role": "user" if number % 2 == 0 else "assistant", "content": f"{number}: {text}"}
            for number in range(messages)
        ],
        "temperature": 0.2,
    }


def hostile_bodies() -> Mapping[str, bytes]:
    """Bodies that hold as much as possible of what is slow to pass."""

    def filled(before: bytes, unit: bytes, after: bytes) -> bytes:
        return before + unit * ((HOSTILE_BYTES - len(before) - len(after)) // len(unit)) + after

    return {
        "open brackets": b"[" * HOSTILE_BYTES,
        "20 000 arrays deep": b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "20 000 objects deep": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        "small arrays": filled(b'{"a":[', b"[1],", b"1]}"),
        "small objects": filled(b'{"a":[', b'{"b":1},', b"1]}"),
        "numbers": filled(b'{"a":[', b"0.123456,", b"1]}"),
        "rows of numbers": filled(b'{"a":[', b"[" + b"0.123456," * 1700 + b"1],", b"1]}"),
        "short strings": filled(b'{"a":[', b'"abcdefgh",', b"1]}"),
        "strings": filled(b'{"a":[', b'"' + b"x" * 520 + b'",', b"1]}"),
        "messages": filled(b'{"a":[', b'{"role":"user","content":"' + b"x" * 700 + b'"},', b"1]}"),
        "escaped quotes": filled(b'{"a":"', b'\\"', b'"}'),
        "backslashes": filled(b'{"a":"', b"\\\\", b'"}'),
        "halves of surrogates": filled(b'{"a":"', rb"\ud800", b'"}'),
        "line feeds": filled(b'{"a":"', rb"\n", b'"}'),
        "one text": filled(b'{"a":"', b"x", b'"}'),
        "Chinese": filled(b'{"a":"', "星".encode(), b'"}'),
        "text for HTML": filled(b'{"a":"', b"<", b'"}'),
        "blanks": filled(b'{"a":', b" ", b"1}"),
        "digits": filled(b'{"a":1.', b"1", b"}"),
        "literals": filled(b'{"a":[', b"true,", b"1]}"),
        "keys": b"{" + b",".join(b'"k%06d":1' % number for number in range(HOSTILE_BYTES // 12)) + b"}",
        "escaped keys": b"{" + b",".join(rb'"\u0061%06d":1' % n for n in range(HOSTILE_BYTES // 18)) + b"}",
        "a long key": filled(b'{"', b"k", b'":1,"a":2}'),
        "quotes": b'"' * HOSTILE_BYTES,
        "a string without end": filled(b'{"a":[1,"', b"x", b""),
    }


def _found(path: Path, body: bytes, tree: object | None = None) -> None:
    with suppress(PathBudget):
        path.find(body, tree)


def _outcome(path: Path, body: bytes, tree: object | None = None) -> str:
    try:
        return "found" if path.find(body, tree) else "nothing"
    except PathBudget:
        return "budget"


def _reading_us(body: bytes) -> float | None:
    try:
        return microseconds(partial(orjson.loads, body))
    except orjson.JSONDecodeError:
        return None


def _ratio(cost: float, reading: float | None) -> str:
    return "no JSON" if reading is None else f"{cost / reading:.3g}"


def _chat_rows() -> Iterator[tuple[str, ...]]:
    tree = chat(200)
    body = orjson.dumps(tree)
    reading = _reading_us(body)
    yield "orjson.loads", "", f"{reading:.1f}", "1"
    for text in CHAT_PATHS:
        path = compile_path(text)
        in_tree = microseconds(partial(path.find, body, tree))
        in_text = microseconds(partial(path.find, body))
        yield f"`{text}`", f"{in_tree:.2f}", f"{in_text:.0f}", _ratio(in_tree, reading)


def _hostile_rows() -> Iterator[tuple[str, ...]]:
    paths = {text: compile_path(text) for text in HOSTILE_PATHS}
    for name, body in hostile_bodies().items():
        cost, slowest = max((hostile_microseconds(partial(_found, path, body)), text) for text, path in paths.items())
        shown = slowest if len(slowest) <= 30 else f"{slowest[:27]}..."
        yield name, f"`{shown}`", _outcome(paths[slowest], body), f"{cost / 1000:.2f}", _ratio(cost, _reading_us(body))


def _jsonpath_rows() -> Iterator[tuple[str, ...]]:
    for messages in (20, 200, (JSONPATH_NODES_MAX - 5) // 3):
        tree = chat(messages)
        body = orjson.dumps(tree)
        reading = _reading_us(body)
        for text in JSONPATHS:
            path = compile_path(text)
            cost = microseconds(partial(_found, path, body, tree))
            yield f"`{text}`", str(messages), _outcome(path, body, tree), f"{cost:.1f}", _ratio(cost, reading)


def paths(_arguments: argparse.Namespace) -> None:
    """Print the tables, and whether the two targets are met."""
    chat_rows = list(_chat_rows())
    print(table(("200 messages", "with the tree, us", "text alone, us", "tree / loads"), chat_rows), end="\n\n")
    hostile = list(_hostile_rows())
    print(
        table((f"{HOSTILE_BYTES >> 20} MiB of", "slowest path", "ends with", "CPU ms", "/ loads"), hostile), end="\n\n"
    )
    print(table(("JSONPath", "messages", "ends with", "us", "/ loads"), _jsonpath_rows()), end="\n\n")
    default_us = next(float(row[1]) for row in chat_rows if row[0] == f"`{DEFAULT_PATH}`")
    hostile_ms = max(float(row[3]) for row in hostile)
    print(f"default path: {default_us:.2f} us, target {DEFAULT_TARGET_US:g}")
    print(f"slowest hostile body: {hostile_ms:.2f} ms, target {HOSTILE_TARGET_MS:g}")
