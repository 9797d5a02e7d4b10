"""Rules that Envoy's routes name, callers that are counted, and identity through a whole exchange."""

from __future__ import annotations

import structlog

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.extproc.exchange import Exchange
from ai_cache_extproc.extproc.telling import RULES_TOLD_MAX
from tests.exchange.conversation import Core, answer_json, ask, core, header, request_headers

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"
CONFIG = Config.model_validate(
    {
        "rules": [
            {"name": "all"},
            {"name": "batch", "match": {"paths": ["/nowhere"]}},
            {"name": "off", "enabled": False},
            {"name": "closed", "scope": {"identity": [{"header": "x-team"}]}},
        ]
    }
)


def named(parts: Core, rule: str) -> Exchange:
    """An exchange on a route that names this rule."""
    return Exchange(parts.snapshot, parts.services, rule)


async def labels(exchange: Exchange) -> tuple[str | None, str | None]:
    """Status and reason that the client sees."""
    await ask(exchange)
    reply = answer_json(exchange)
    exchange.close()
    return header(reply, "x-ai-cache-status"), header(reply, "x-ai-cache-reason")


async def test_the_rule_that_a_route_names_applies() -> None:
    """Whatever its own `match` says, and whatever rule stands before it."""
    async with core(CONFIG) as parts:
        assert ("MISS", None) == await labels(named(parts, "batch"))
        assert 1 == parts.counted("aicache_requests_total", dialect="openai_chat", rule="batch", result="miss")
        assert ("BYPASS", "rule_disabled") == await labels(named(parts, "off"))


async def test_an_unknown_name_is_a_bypass() -> None:
    """Not the first rule that would match: the operator meant another. It is counted each time and said once."""
    async with core(CONFIG) as parts:
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                assert ("BYPASS", "no_rule") == await labels(named(parts, "misspelt"))
        told = [line for line in lines if line["event"] == "rule_unknown"]
        assert ["misspelt"] == [line["rule"] for line in told]
        assert 3 == parts.counted("aicache_bypass_total", reason="no_rule")
        assert 0 == len(parts.flights)


async def test_a_route_that_makes_names_up_fills_no_log() -> None:
    """Envoy may put text of a request there; what is told and remembered is bounded."""
    async with core(CONFIG) as parts:
        with structlog.testing.capture_logs() as lines:
            for number in range(RULES_TOLD_MAX + 9):
                await labels(named(parts, f"{number}-{'x' * 100}"))
        told = [line["rule"] for line in lines if line["event"] == "rule_unknown"]
        assert RULES_TOLD_MAX == len(told) == len(parts.services.told)
        assert {64} == {len(rule) for rule in told}


async def test_no_rule_without_a_name_is_said_nowhere() -> None:
    """A request that no rule matches is everyday traffic."""
    async with core(Config.model_validate({"rules": []})) as parts:
        with structlog.testing.capture_logs() as lines:
            assert ("BYPASS", "no_rule") == await labels(parts.exchange())
        assert [] == [line for line in lines if line["event"] == "rule_unknown"]


async def test_a_missing_identity_is_a_bypass_with_its_word() -> None:
    """A request with a credential, but without the header that the rule requires, neither reads nor writes."""
    async with core(CONFIG) as parts:
        assert ("BYPASS", "no_identity") == await labels(named(parts, "closed"))
        assert 1 == parts.counted("aicache_bypass_total", reason="no_identity")
        assert 0 == await parts.stored()


async def test_callers_are_counted_by_what_they_are_known_by() -> None:
    """Each scope once; a JWT is told from other credentials."""
    async with core() as parts:
        for key in ("a", "a", "b", JWT, f"{JWT}x", JWT):
            exchange = parts.exchange()
            exchange.handle(request_headers(key=key))
            exchange.close()
        shown = [parts.counted("aicache_scopes_new_total", credential=kind) for kind in ("other", "token")]
        assert [2, 2, 4] == [*shown, parts.counted("aicache_scopes_seen")]


async def test_an_exchange_wants_what_its_rules_ask_for() -> None:
    """Nothing where no rule has such a part; each name once where several do."""
    claim = {"metadata": "n", "path": ["jwt", "sub"]}
    address = {"attribute": "source.address"}
    rules = [{"name": name, "scope": {"identity": [claim, address, {"header": "x-team"}]}} for name in ("a", "b")]
    async with core(Config.model_validate({"rules": rules})) as parts:
        wanted = parts.exchange().wanted
        assert ((("n", "jwt", "sub"),), ("source.address",)) == (wanted.metadata, wanted.attributes)
    async with core() as parts:
        wanted = parts.exchange().wanted
        assert ((), ()) == (wanted.metadata, wanted.attributes)
