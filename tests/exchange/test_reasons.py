"""The same cause has the same word, whether an exchange tells it or `explain` does."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from ai_cache_extproc.cli.explanation import Explanation, explain_request
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.extproc.events import Immediate
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.model import Reason, RequestHead, ResponseHead
from tests.exchange.conversation import (
    QUESTION,
    Core,
    core,
    header,
    reply_to,
    request_body,
    request_headers,
    response_headers,
)
from tools.docs.reference import IN_HEADER, ONLY_RUNNING, REASONS


@dataclass(frozen=True)
class Cause:
    """Something in a request or in an answer's head that has a word."""

    asked: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    members: dict[str, object] = field(default_factory=dict)
    answered: dict[str, Any] = field(default_factory=dict)
    rule: dict[str, object] = field(default_factory=dict)
    limits: dict[str, object] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """The document that makes it a cause."""
        return Config.model_validate({"rules": [self.rule], "limits": self.limits})

    @property
    def sent(self) -> bytes:
        """The request's body."""
        return self.body or json.dumps(QUESTION | self.members).encode()


LOOK = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]
OBEYING: dict[str, object] = {"ignore_upstream_cache_control": False}

CAUSES: dict[Reason, Cause] = {
    Reason.SKIP_HEADER: Cause(asked={"x_higress_skip_ai_cache": "on"}),
    Reason.NO_STORE: Cause(asked={"cache_control": "no-store"}),
    Reason.NO_RULE: Cause(rule={"match": {"paths": ["/other"]}}),
    Reason.RULE_DISABLED: Cause(rule={"enabled": False}),
    Reason.BYPASS_ON: Cause(asked={"x_team": "off"}, rule={"bypass_on": [{"header": "x-team", "equals": "off"}]}),
    Reason.NO_CREDENTIAL: Cause(asked={"key": None}),
    Reason.NO_IDENTITY: Cause(rule={"scope": {"identity": [{"header": "x-consumer"}]}}),
    Reason.REQUEST_ENCODED: Cause(asked={"content_encoding": "gzip"}),
    Reason.REQUEST_TOO_LARGE: Cause(limits={"request_bytes_max": 10}),
    Reason.NOT_JSON: Cause(body=b"{"),
    Reason.BOM: Cause(body=b"\xef\xbb\xbf{}"),
    Reason.TRAILING_DATA: Cause(body=b"{} {}"),
    Reason.DUPLICATE_KEY: Cause(body=b'{"model":"a","model":"b"}'),
    Reason.NUMBER: Cause(members={"seed": 2**80}),
    Reason.TOO_DEEP: Cause(limits={"json_depth_max": 2}),
    Reason.TOO_MANY_VALUES: Cause(limits={"json_values_max": 2}),
    Reason.NOT_UNDERSTOOD: Cause(body=b'{"model":"a"}'),
    Reason.SIDE_EFFECT: Cause(members={"store": True}),
    Reason.REMOTE_MEDIA: Cause(members={"messages": LOOK}),
    Reason.SAMPLING: Cause(members={"temperature": 1.5}, rule={"sampling": {"temperature_max": 1}}),
    Reason.ONLY_IF_CACHED: Cause(
        asked={"cache_control": "only-if-cached, no-cache"},
        rule={"controls": {"honour": ["only-if-cached", "no-cache"]}},
    ),
    Reason.STATUS: Cause(answered={"status": 500}),
    Reason.FALLBACK: Cause(rule={"pin": {"clusters": ["main"]}}, answered={"status": 200}),
    Reason.CONTENT_TYPE: Cause(answered={"content_type": "text/html"}),
    Reason.ANSWER_ENCODED: Cause(answered={"content_encoding": "gzip"}),
    Reason.UPSTREAM_NO_STORE: Cause(answered={"cache_control": "private"}, rule=OBEYING),
    Reason.SET_COOKIE: Cause(answered={"set_cookie": "a=b"}, rule=OBEYING),
    Reason.BAD_TAGS: Cause(answered={"x_ai_cache_tags": "two words"}, rule={"controls": {"trust_answer_tags": True}}),
    Reason.ANSWER_TOO_LARGE: Cause(answered={"content_length": "9"}, rule={"answer_bytes_max": 8}),
}


def test_every_word_has_a_cause_here() -> None:
    """Whoever adds a word that a header can show gives it a cause, or says that only a running sidecar knows it."""
    shown = {word for title, group in REASONS.items() if IN_HEADER in title or "504" in title for word in group}
    assert shown - ONLY_RUNNING == set(CAUSES)


async def told(parts: Core, cause: Cause) -> str | None:
    """What `X-AI-Cache-Reason` says."""
    exchange = parts.exchange()
    reply = exchange.handle(request_headers(**cause.asked))
    if not isinstance(reply, Immediate) and "READING" == exchange.phase.name:
        reply = await reply_to(exchange, request_body(cause.sent))
    if not isinstance(reply, Immediate):
        reply = await reply_to(exchange, response_headers(**cause.answered))
    exchange.close()
    return header(reply, "x-ai-cache-reason")


def explained(parts: Core, cause: Cause) -> Explanation:
    """What `explain` says."""
    asked = request_headers(**cause.asked)
    answer = response_headers(**cause.answered).head
    assert isinstance(asked.head, RequestHead)
    assert isinstance(answer, ResponseHead)
    return explain_request(
        asked.head,
        cause.sent,
        snapshot=parts.snapshot,
        dialects=Dialects(parts.snapshot.config.limits.sse_line_bytes_max),
        keyring=Keyring(b"k" * 32, "aicache:", 0),
        answer=answer,
    )


@pytest.mark.parametrize("word", CAUSES)
async def test_an_exchange_and_explain_agree(word: Reason) -> None:
    """`X-AI-Cache-Reason` and `aicache explain` have the same word."""
    cause = CAUSES[word]
    async with core(cause.config) as parts:
        explanation = explained(parts, cause)
        found = explanation.reason or (explanation.answer or {}).get("reason")
        assert (word, word) == (await told(parts, cause), found)
        assert 0 == len(parts.flights)


async def test_where_nothing_is_wrong_neither_has_a_word() -> None:
    """A question that is looked up, and an answer that is kept with its tags."""
    cause = Cause(rule={"tags": ["docs"], "answer_bytes_max": 99})
    async with core(cause.config) as parts:
        explanation = explained(parts, cause)
        assert None is await told(parts, cause)
        assert ("lookup", None) == (explanation.outcome, explanation.reason)
        assert {"kept": True, "tags": ["docs"], "bytes_max": 99} == explanation.answer
