"""Every text comes back through the default templates of Higress, equal and as JSON."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.config.template import RESPONSE, STREAM_RESPONSE
from ai_cache_extproc.paths.template import compile_template

ANSWER = compile_template(RESPONSE, is_stream=False)
STREAM = compile_template(STREAM_RESPONSE, is_stream=True)
TEXTS = 100_000
CHARS_MAX = 24


def comes_back(text: str) -> bool:
    """Whether both templates parse and say this text."""
    answer = json.loads(ANSWER.render(text))["choices"][0]["message"]["content"]
    event, end, rest = STREAM.render(text).decode().split("\n\n")
    said = json.loads(event.removeprefix("data:"))["choices"][0]["delta"]["content"]
    return (text, text, "data:[DONE]", "") == (answer, said, end, rest)


@given(st.text())
def test_any_text(text: str) -> None:
    """Texts that hypothesis thinks of come back."""
    assert comes_back(text)


def test_a_hundred_thousand_random_texts() -> None:
    """Texts of any Unicode characters, quotes, backslashes and controls more often than others, come back."""
    chance = random.Random(4)
    scalars = [*range(0xD800), *range(0xE000, 0x110000)]
    awkward = [ord(sign) for sign in '"\\%s{}[]:,\r\n\t\x00\x1f\x7f']
    for _ in range(TEXTS):
        length = chance.randrange(CHARS_MAX)
        signs = [chance.choice(awkward if chance.random() < 0.3 else scalars) for _ in range(length)]
        text = "".join(map(chr, signs))
        assert comes_back(text), ascii(text)
