"""What it costs to turn a request into its store key: `python bench/keys.py`. Microseconds, best of five rounds.

A body as SDKs send it (no blanks), as `json.dumps` writes it, and with letters that it escapes; small and large.
"""

from __future__ import annotations

import json
import sys
import timeit
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ai_cache_extproc.config.model import Config, Rule
from ai_cache_extproc.config.snapshot import Snapshot
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.keys.canonical import canonical, parse
from ai_cache_extproc.keys.identity import Keyring, fingerprint, identify
from ai_cache_extproc.keys.scope import scope_of
from ai_cache_extproc.model import Mode, Question, RequestHead

ROUNDS = 5
SECONDS_PER_ROUND = 0.2

HEAD = RequestHead(
    method="POST",
    path="/v1/chat/completions",
    authority="api.example.com",
    headers={
        "authorization": "Bearer sk-" + "a" * 48,
        "content-type": "application/json",
        "user-agent": "OpenAI/Python 3.52.0",
        "accept": "application/json",
        "x-request-id": "00000000-0000-0000-0000-000000000000",
    },
    route="llm",
)
ANSWER_HEADERS = ("openai-beta", "openai-organization", "openai-project")


def chat(turns: int, words: int, letters: str) -> dict[str, object]:
    """A chat request of some turns."""
    text = (
        f'She {letters} asked: "how does it work?" \n' + f"larger than before, {letters} and quite ordinary. " * words
    )
    messages = [
        {"role": "user" if turn % 2 == 0 else "assistant", "content": f"{turn}: {text}"} for turn in range(turns)
    ]
    return {"model": "gpt-4o-mini", "temperature": 0.7, "max_tokens": 256, "stream": True, "messages": messages}


def microseconds(call: Callable[[], object]) -> float:
    """The best time of one call over the rounds."""
    timer = timeit.Timer(call)
    calls, seconds = timer.autorange()
    calls = max(1, int(calls * SECONDS_PER_ROUND / seconds))
    return min(timer.repeat(ROUNDS, calls)) / calls * 1e6


def main() -> None:
    """Print one line per body, then what does not depend on it."""
    rule = Rule()
    keyring = Keyring(secret=b"k" * 32, prefix="aicache:", epoch=0)
    scope = scope_of(HEAD, rule)
    assert isinstance(scope, bytes)
    print(f"{'body':>25} {'parse':>8} {'canonical':>10} {'fingerprint':>12} {'parse + fingerprint':>20}")
    for turns, words in ((3, 2), (24, 8)):
        plain, letters = chat(turns, words, "then"), chat(turns, words, "größer")
        bodies = {
            "compact": json.dumps(plain, separators=(",", ":")).encode(),
            "blanks": json.dumps(plain).encode(),
            "compact, UTF-8": json.dumps(letters, ensure_ascii=False, separators=(",", ":")).encode(),
            "blanks, escapes": json.dumps(letters).encode(),
        }
        for spelling, body in bodies.items():
            parsed = parse(body, depth_max=128)
            question = Question(dialect="openai_chat", model="gpt-4o-mini", mode=Mode.STREAM, body=parsed)
            parsing = microseconds(partial(parse, body, depth_max=128))
            spelling_once = microseconds(partial(canonical, parsed))
            hashing = microseconds(partial(fingerprint, question, HEAD, rule, ANSWER_HEADERS))
            print(
                f"{spelling:>15} {len(body):>7} B {parsing:>8.2f} {spelling_once:>10.2f} {hashing:>12.2f}"
                f" {parsing + hashing:>20.2f}"
            )
    print(f"scope_of {microseconds(lambda: scope_of(HEAD, rule)):.2f}")
    print(f"identify {microseconds(lambda: identify(keyring, scope, b'f' * 32)):.2f}")
    snapshot = Snapshot(Config())
    print(f"rule_for, one default rule {microseconds(lambda: snapshot.rule_for(HEAD)):.3f}")
    hostile = {
        "4 MiB of brackets": b"[" * (4 << 20),
        "4 MiB of {}": b'{"a":[' + b"{}, " * ((4 << 20) // 4) + b"{}]}",
        "4 MiB of floats": b'{"a":[' + b"0.12, " * ((4 << 20) // 6) + b"0]}",
        "4 MiB of text": json.dumps({"a": "x" * (4 << 20)}).encode(),
    }
    for name, body in hostile.items():
        print(f"{name}: {microseconds(partial(_refused_or_parsed, body)) / 1000:.1f} ms")


def _refused_or_parsed(body: bytes) -> None:
    with suppress(DialectError):
        parse(body, depth_max=128)


if __name__ == "__main__":
    main()
