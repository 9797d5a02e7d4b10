"""Two callers, every API, every mode: never one the other's answer, and always one's own (S1, S2)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.dialects import Dialects
from ai_cache_extproc.extproc.codec import decode
from ai_cache_extproc.extproc.events import Continue, Immediate, RequestBody, ResponseBody, ResponseHeaders
from ai_cache_extproc.model import ResponseHead
from tests.exchange.conversation import Core, core, reply_to
from tests.support.tenants import JWT, Api, Caller, every_api, marks_in

APIS = every_api()
PAIRS = 10_000
QUESTIONS = 3
CALLERS = 60

# What a careless join, a trimmed value or a lost name would take for one another.
VALUES = (
    "a",
    "A",
    "a ",
    "b",
    "a, b",
    "a,b",
    "ab",
    "a\x1fb",
    "\xff",
    "authorization",
    "a\x00",
    '"a"',
    "a:b",
    "a=b&key=a",
)
SEPARATORS = ("", ",", ", ", ":", ";", "|", "/", "=", "&", " ", "\t", "\x00", "\x1f")
"""What joins components elsewhere; a value that holds one must not pass for two."""
NAMES = ("authorization", "x-api-key", "api-key", "cookie", "x-goog-api-key", "x-forwarded-client-cert")

IDENTITY: dict[str, Any] = {
    "credentials": [],
    "parameters": [],
    "identity": [
        {"metadata": JWT, "path": ["jwt", "sub"]},
        {"metadata": JWT, "path": ["jwt", "tenant"], "required": False},
        {"attribute": "source.address"},
        {"header": "x-team", "required": False},
        {"parameter": "team", "required": False},
    ],
}


def by_credential(chance: random.Random) -> tuple[Caller, object]:
    """A caller of the default rule, and who that is."""
    headers = [(chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.choice((0, 1, 1, 2)))]
    query = "&".join(f"key={value}" for value in chance.choices(("a", "b", ""), k=chance.choice((0, 0, 1, 2))))
    authority, route = chance.choice(("llm", "llm:80", "l")), chance.choice(("", "a", "lm"))
    if not headers and query in {"", "key=", "key=&key="}:
        return by_credential(chance)
    return known_as(Caller(tuple(headers), query, authority, route))


def known_as(caller: Caller) -> tuple[Caller, object]:
    """The caller, with who it is to the default rule. An empty `key=` is no credential, and then a part of the question."""
    merged: dict[str, str] = {}
    for name, value in caller.headers:
        merged[name] = f"{merged[name]}, {value}" if name in merged else value
    return caller, (caller.authority, caller.route, tuple(sorted(merged.items())), caller.query)


def by_identity(chance: random.Random) -> tuple[Caller, object]:
    """A caller known by a token's claims, an address, and perhaps a team."""
    subject = chance.choice(("a", "b", "1", 1, True, "true", ["a"], '["a"]', 1.5))
    claims: dict[str, object] = {"sub": subject, "iat": 5}
    tenant = chance.choice((None, "", "a", "b"))
    if tenant is not None:
        claims["tenant"] = tenant
    address = chance.choice(("10.0.0.1", "10.0.0.11", "[::1]"))
    team = chance.choice((None, "", "a", "b"))
    in_query = chance.choice(("", "", "team=a", "team=b"))
    who = (repr(subject), tenant or None, address, team or None, in_query)
    headers = () if team is None else (("x-team", team),)
    return Caller(headers, in_query, address=address, claims=claims), who


def neighbour(caller: Caller, chance: random.Random) -> Caller:
    """A caller who differs in one thing only: the value or the number of a credential, or the place."""
    headers, value = caller.headers, chance.choice(VALUES)
    match chance.randrange(4):
        case 0 if headers:
            return replace(caller, headers=((headers[0][0], value), *headers[1:]))
        case 1 if headers:
            return replace(caller, headers=((headers[0][0], value), *headers))
        case 2:
            return replace(caller, authority=chance.choice(("llm", "llm:80", "l")))
        case _:
            return replace(caller, route=chance.choice(("", "a", "lm")))


def forged() -> list[tuple[Caller, object]]:
    """Callers whose one credential spells out another caller's two, whatever joins them; and that other caller."""
    honest = Caller((("authorization", "a"), ("cookie", "a")))
    spelled = [Caller((("authorization", each.join(("a", "header", "cookie", "a"))),)) for each in SEPARATORS]
    return [known_as(caller) for caller in (honest, *spelled)]


def seen_again(caller: Caller, chance: random.Random) -> Caller:
    """The same caller with a new token on a new connection."""
    caller = caller.varied(chance)
    if caller.claims is None:
        return caller
    port, claims = chance.randrange(1024, 65_536), {**caller.claims, "iat": chance.randrange(10_000)}
    headers = (*caller.headers, ("authorization", f"Bearer {chance.random()}"))
    return replace(caller, headers=headers, address=f"{caller.address}:{port}", claims=claims)


def callers(make: Callable[[random.Random], tuple[Caller, object]], chance: random.Random) -> list[Caller]:
    """Callers of whom no two are the same."""
    found = {who: caller for caller, who in (forged() if make is by_credential else ())}
    while len(found) < CALLERS:
        caller, who = make(chance)
        if make is by_credential and found and chance.random() < 0.8:
            caller, who = known_as(neighbour(chance.choice(list(found.values())), chance))
        found.setdefault(who, caller)
    return list(found.values())


async def asked(parts: Core, api: Api, caller: Caller, *, number: int, question: int) -> set[tuple[int, int]] | None:
    """Ask as a caller; for whom the answer from the cache is, or None on a miss, which is then answered."""
    body = api.asked(question)
    exchange = parts.exchange()
    head = decode(caller.message(api, length=len(body)), exchange.wanted)
    assert head is not None
    exchange.handle(head)
    reply = await reply_to(exchange, RequestBody(body, end_of_stream=True))
    if isinstance(reply, Immediate):
        exchange.close()
        return marks_in(reply.body)
    assert isinstance(reply, Continue), reply
    assert exchange.phase.name == "FORWARDED", (api.name, caller)
    answer = api.answered(number, question)
    exchange.handle(ResponseHeaders(ResponseHead(200, {"content-type": api.content_type}), end_of_stream=False))
    exchange.handle(ResponseBody(answer, end_of_stream=False))
    exchange.handle(ResponseBody(b"", end_of_stream=True))
    exchange.close()
    await parts.writeback.drain(5)
    return None


def config(*, scope: dict[str, Any] | None = None, near: bool = True) -> Config:
    """One rule whose entries neither expire nor are asked for ahead of it."""
    rule = {"name": "default", "early_refresh": 0, **({"scope": scope} if scope else {})}
    document: dict[str, Any] = {"rules": [rule], "limits": {}}
    if not near:
        document["near"] = {"bytes_max": 0}
    return Config.model_validate(document)


CASES = {
    "credentials": (config(), by_credential),
    "credentials, from the store": (config(near=False), by_credential),
    "identity": (config(scope=IDENTITY), by_identity),
}


# Measured, it takes three times as long; others run the same lines.
@pytest.mark.no_cover
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_no_answer_crosses_over(case: tuple[Config, Callable[[random.Random], tuple[Caller, object]]]) -> None:
    """In 10 000 random pairs every hit is the caller's own, and whoever asked before in that mode is answered."""
    document, make = case
    # A line for each exchange would take most of the time.
    with structlog.testing.capture_logs():
        async with core(document) as parts:
            crossed, over_isolated, hits = await paired(parts, callers(make, random.Random(7)), random.Random(8))
    assert ([], []) == (crossed, over_isolated)
    assert hits > PAIRS


async def paired(parts: Core, everyone: list[Caller], chance: random.Random) -> tuple[list[object], list[object], int]:
    """Let random pairs ask one question each: which hits were another's, which misses should have been hits, and all hits."""
    crossed: list[object] = []
    over_isolated: list[object] = []
    hits = 0
    known: set[tuple[int, str, str, int]] = set()
    for _ in range(PAIRS):
        api, question = chance.choice(APIS), chance.randrange(QUESTIONS)
        for number in chance.sample(range(len(everyone)), 2):
            caller = seen_again(everyone[number], chance)
            found = await asked(parts, api, caller, number=number, question=question)
            place = (number, api.name, str(api.mode), question)
            if found is None:
                over_isolated += [(api, caller)] if place in known else []
            else:
                hits += 1
                crossed += [(api, caller, found)] if found != {(number, question)} else []
            known.add(place)
    return crossed, over_isolated, hits


async def test_whoever_shares_by_design_does() -> None:
    """What a rule takes out of the scope no longer keeps callers apart: a token that changes, the route, the host."""
    scope = {
        "credentials": [],
        "identity": [{"metadata": JWT, "path": ["jwt", "sub"]}],
        "route": False,
        "authority": False,
    }
    first = Caller((("authorization", "Bearer 1"),), authority="one", route="r1", claims={"sub": "a", "iat": 1})
    second = Caller((("authorization", "Bearer 2"),), authority="two", route="r2", claims={"sub": "a", "iat": 2})
    async with core(config(scope=scope)) as parts:
        for api in APIS:
            await asked(parts, api, first, number=1, question=1)
            assert {(1, 1)} == await asked(parts, api, second, number=2, question=1)


def test_every_dialect_is_asked() -> None:
    """A dialect that is added is missing here until it has its answers."""
    assert {dialect.name for dialect in Dialects(1024).built_in} == {api.name for api in APIS}
