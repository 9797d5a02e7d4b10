"""The fingerprint, and the key under which an answer is kept."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

import pytest

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.keys.canonical import parse
from ai_cache_extproc.keys.identity import Keyring, fingerprint, identify
from ai_cache_extproc.keys.parts import joined, split_target
from ai_cache_extproc.model import Mode, Question, RequestHead

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.7,"stream":true}'


def printed(
    body: bytes = BODY,
    *,
    dialect: str = "openai_chat",
    method: str = "POST",
    path: str = "/v1/chat/completions?b=2&a=1&key=secret",
    headers: Mapping[str, str] | None = None,
    answer_headers: tuple[str, ...] = ("openai-beta", "openai-project"),
    rule: Rule | None = None,
) -> str:
    """The fingerprint of a request with these parts, in hex."""
    question = Question(dialect=dialect, model="m", mode=Mode.JSON, body=parse(body, depth_max=8))
    head = RequestHead(method, path, "api.example.com", headers or {})
    return fingerprint(question, head, rule or Rule(), answer_headers).hex()


def test_a_fingerprint_is_32_bytes_that_never_change_by_themselves() -> None:
    """Entries on disk are found by it: another value here needs another version in it."""
    assert "c4843cae78b211e6e45ddfd6942c10d8a6a14879fe7758be9b932e5e4726d34d" == printed()


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.7}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.7,"stream":false}',
        b'{"temperature":0.70,"messages":[{"content":"hi","role":"user"}],"model":"m","stream":null}',
        b' {"model": "m", "messages": [{"role": "user", "content": "\\u0068i"}], "temperature": 7e-1}\n',
    ],
)
def test_the_same_question_has_the_same_fingerprint(body: bytes) -> None:
    """Order, blanks, escapes, spelling of a number and `stream` do not count."""
    assert printed() == printed(body)


@pytest.mark.parametrize(
    "body",
    [
        BODY.replace(b'"hi"', b'"ho"'),
        BODY.replace(b'"user"', b'"system"'),
        BODY.replace(b"0.7", b"0.8"),
        BODY.replace(b"true", b'true,"n":1'),
        BODY.replace(b"true", b'true,"n":1.0'),
        BODY.replace(b"true", b'true,"stream_options":{"include_usage":true}'),
        BODY.replace(b"true", b'true,"seed":null'),
        BODY.replace(b"[", b'[{"stream":true},'),
        BODY.replace(b'"model":"m"', b'"model":"M"'),
    ],
)
def test_another_body_has_another_fingerprint(body: bytes) -> None:
    """Every field counts, at any depth, unless a list says otherwise."""
    assert printed() != printed(body)


def test_everything_around_the_body_counts() -> None:
    """Each of these requests is another question."""
    prints = [
        printed(),
        printed(dialect="openai_completions"),
        printed(method="PUT"),
        printed(path="/v1/chat/completions"),
        printed(path="/v1/chat/completions?"),
        printed(path="/v1/chat/completions?a=1"),
        printed(path="/v1/chat/completions?a=1&b=3"),
        printed(path="/v1/chat/completions?a=1&b=2&b=3"),
        printed(path="/v1/chat/completions?a=1&b=3&b=2"),
        printed(path="/v1/chat/completions?a=1&b=2&key="),
        printed(path="/v1/Chat/completions?a=1&b=2"),
        printed(path="/v1/chat/completions%3fa=1&b=2"),
        printed(headers={"openai-beta": ""}),
        printed(headers={"openai-beta": "a"}),
        printed(headers={"openai-project": "a"}),
        printed(headers={"openai-beta": "a", "openai-project": "a"}),
    ]
    assert len(prints) == len(set(prints))


def test_what_belongs_to_the_scope_or_to_nobody_does_not_count() -> None:
    """Credentials, the order of the query, other headers and the order of the header list."""
    assert printed() == printed(path="/v1/chat/completions?a=1&b=2")
    assert printed() == printed(path="/v1/chat/completions?a=1&Key=other&b=2")
    assert printed() == printed(headers={"authorization": "x", "x-request-id": "1"})
    headers = {"openai-beta": "a", "openai-project": "b"}
    assert printed(headers=headers) == printed(
        headers=headers, answer_headers=("openai-project", "openai-beta", "openai-beta")
    )


def test_a_rule_adds_headers_and_ignores_fields() -> None:
    """Ignored fields are those of the top level; the rule's headers join the dialect's."""
    rule = Rule.model_validate({"fingerprint": {"headers": ["X-Region"], "ignore": ["user", "absent"]}})
    assert printed() == printed(rule=rule)
    assert printed(headers={"x-region": "eu"}) == printed()
    assert printed(headers={"x-region": "eu"}, rule=rule) != printed(rule=rule)
    with_user = BODY.replace(b"true", b'true,"user":"u"')
    assert printed(with_user) != printed()
    assert printed(with_user, rule=rule) == printed()
    assert printed(BODY.replace(b'"hi"', b'"hi","user":"u"'), rule=rule) != printed()


def test_the_body_of_the_question_is_left_as_it_is() -> None:
    """A fingerprint takes nothing out of what the dialect reads afterwards."""
    question = Question(dialect="d", model="m", mode=Mode.JSON, body={"stream": True, "user": "u"})
    rule = Rule.model_validate({"fingerprint": {"ignore": ["user"]}})
    fingerprint(question, RequestHead("POST", "/", "", {}), rule, ())
    assert {"stream": True, "user": "u"} == question.body


def test_the_key_names_prefix_epoch_scope_and_digest() -> None:
    """The parts of a key are what the format says, computed here a second time."""
    secret = b"s" * 32
    identity = identify(Keyring(secret=secret, prefix="aicache:", epoch=7), b"scope", b"f" * 32)
    digest = hmac.new(secret, joined([b"aicache digest 1", b"scope", b"f" * 32]), hashlib.sha256)
    tag = hmac.new(secret, joined([b"aicache scope 1", b"scope"]), hashlib.sha256).hexdigest()[:16]
    assert digest.digest() == identity.digest
    assert f"aicache:7:{tag}:{digest.hexdigest()}" == identity.key
    assert digest.hexdigest()[:32] == identity.id


def test_another_scope_secret_or_question_is_another_entry() -> None:
    """The digest depends on all three; the epoch and the prefix stand in the key alone."""
    ring = Keyring(secret=b"s" * 32, prefix="p:", epoch=1)
    other_secret = Keyring(secret=b"t" * 32, prefix="p:", epoch=1)
    other_epoch = Keyring(secret=b"s" * 32, prefix="p:", epoch=2)
    one = identify(ring, b"scope", b"f" * 32)
    others = [
        identify(ring, b"scopf", b"f" * 32),
        identify(ring, b"scope", b"g" * 32),
        identify(ring, b"scopef", b"f" * 31),
        identify(other_secret, b"scope", b"f" * 32),
    ]
    assert 5 == len({identity.digest for identity in (one, *others)})
    assert one.digest == identify(other_epoch, b"scope", b"f" * 32).digest
    assert one.key != identify(other_epoch, b"scope", b"f" * 32).key


def test_a_keyring_does_not_print_its_secret() -> None:
    """A log line or a traceback with a keyring in it stays harmless."""
    assert "Keyring(prefix='p:', epoch=1, purges=0)" == repr(Keyring(secret=b"canary" * 6, prefix="p:", epoch=1))


def test_fields_that_may_be_one_name_keep_their_order() -> None:
    """An upstream may read `A`, `%61` and `a` as one name, where the last or the first wins."""
    assert ("a=1", "A=2", "%61=3", "b=4") == split_target("/p?b=4&a=1&A=2&%61=3", ()).query
    assert ("A=2", "a=1") == split_target("/p?A=2&a=1", ()).query
