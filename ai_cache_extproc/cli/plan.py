"""What a configuration does, in words: the effective plan, and what to think twice about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from ai_cache_extproc.cli.dangers import dangers
from ai_cache_extproc.cli.plan_controls import labels_row, rule_rows
from ai_cache_extproc.cli.plan_semantic import meaning_rows, semantic_rows
from ai_cache_extproc.cli.words import duration, listed, size
from ai_cache_extproc.config.apisix_values import KEY_PREFIX as APISIX_KEY_PREFIX
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.load import Loaded
from ai_cache_extproc.config.model import Config, MemoryStore, PluginStore, RedisStore, SqliteStore
from ai_cache_extproc.config.rules import Match, Rule
from ai_cache_extproc.config.scope import Scope
from ai_cache_extproc.plugins import store_origin
from ai_cache_extproc.stores.sqlite import default_path

Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RulePlan:
    """One rule: its name and what it does, topic by topic."""

    name: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class Plan:
    """What is served, kept and waited for, topic by topic; the rules in the order in which they are tried.

    notes: what of a foreign document holds otherwise than it reads.
    """

    source: str
    dialect: str
    rows: Rows
    rules: tuple[RulePlan, ...]
    notes: tuple[Note, ...]
    warnings: tuple[str, ...]


def plan_of(loaded: Loaded, environ: Mapping[str, str]) -> Plan:
    """The effective plan. environ says where the default SQLite file stands."""
    config = loaded.config
    source = "embedded defaults" if loaded.embedded else str(loaded.path)
    rows = (
        ("listens", _listens(config)),
        ("admin", f"{config.admin} (HTTP: /metrics /livez /readyz /config /stats)" if config.admin else "off"),
        ("store", _store(config, environ)),
        ("near copy", _near(config)),
        ("encryption", _encryption(config)),
        ("identity key", _key(config)),
        *meaning_rows(config),
        ("waits", _waits(config)),
        ("Envoy", _envoy(config)),
        ("limits", _limits(config)),
        ("write queue", f"{config.write_queue.entries_max} answers, {size(config.write_queue.bytes_max)}"),
        ("stopping", _stopping(config)),
        labels_row(config),
        ("logs", f"{config.log.format} lines from level {config.log.level} on standard error"),
        ("spans", _spans(config)),
        ("prices", _prices(config)),
    )
    rules = tuple(RulePlan(rule.name, _rule(rule, config)) for rule in config.rules)
    return Plan(source, loaded.dialect, rows, rules, loaded.notes, tuple(map(str, dangers(loaded))))


def _listens(config: Config) -> str:
    addresses = listed([str(address) for own in config.endpoints for address in own], joint="and")
    if config.workers == 1:
        return f"{addresses} for Envoy (gRPC)"
    return f"{addresses} for Envoy (gRPC), one for each of {config.workers} worker processes; the limits hold for each"


def _store(config: Config, environ: Mapping[str, str]) -> str:
    match config.store:
        case MemoryStore(bytes_max=bytes_max):
            return f"memory, up to {size(bytes_max)}; empty after a restart"
        case SqliteStore(path=path, bytes_max=bytes_max):
            return f"SQLite file {path or default_path(environ)}, up to {size(bytes_max)}; the oldest make room"
        case RedisStore():
            return _redis(config.store)
        case PluginStore(type=name):
            return f"{name}, of the package {store_origin(name)}; what it promises is its own"
        case _:
            assert_never(config.store)


def _redis(store: RedisStore) -> str:
    where = listed([parts.netloc.rpartition("@")[2] or parts.path for parts in store.parts], joint="and")
    what = "Redis"
    if store.cluster:
        what = "Redis Cluster found through"
    elif store.sentinel is not None:
        what = f'Redis master "{store.sentinel.master}" named by the sentinels'
    secured = " over TLS" if store.parts[0].scheme == "rediss" else ""
    unchecked = "" if store.tls.verify else ", its certificate NOT verified"
    number = f", database {store.database}" if store.database else ""
    return f"{what} {where}{secured}{unchecked}{number}; its own maxmemory policy makes room"


def _near(config: Config) -> str:
    if config.near.bytes_max == 0:
        return "off"
    kept = f"{size(config.near.bytes_max)}, read again from the store after {duration(config.near.ttl_s_max)}"
    if isinstance(config.store, RedisStore) and config.store.tracking:
        return f"{kept}, or with client tracking as soon as it changes; empty while Redis is away"
    return kept


def _encryption(config: Config) -> str:
    ids = [key.id for key in config.encryption.keys]
    if not ids:
        return "off: the store holds answers in clear"
    return f"AES-256-GCM under key {ids[0]}" + (f"; {listed(ids[1:], joint='and')} still read" if ids[1:] else "")


def _spans(config: Config) -> str:
    tracing = config.tracing
    if tracing.url is None:
        return "off"
    return f"to {tracing.url}, as callers sample; {tracing.ratio:.4g} of the calls that belong to no trace"


def _prices(config: Config) -> str:
    if not config.prices:
        return "none: metrics count what hits save for all models together, and no money"
    return f"of {listed([price.model for price in config.prices], joint='and')}; other models have none"


def _key(config: Config) -> str:
    if config.identity.key is None:
        return "kept by the store" + ("" if isinstance(config.store, MemoryStore) else ", made at the first start")
    return "configured" if config.identity.key_file is None else f"read from {config.identity.key_file}"


def _waits(config: Config) -> str:
    lookup = config.lookup
    store = f"the store has {duration(lookup.deadline_ms / 1000)}, then the request goes upstream"
    if lookup.flight_wait_ms == 0:
        return f"{store}; nobody waits for an identical request"
    stream_ms = min(lookup.flight_wait_ms, lookup.flight_wait_stream_ms)
    return (
        f"{store}; an identical request in flight is waited for {duration(lookup.flight_wait_ms / 1000)}, "
        f"by streaming clients {duration(stream_ms / 1000)}"
    )


def _envoy(config: Config) -> str:
    envoy = config.envoy
    timeout = f"the filter must say message_timeout {duration(envoy.message_timeout_ms / 1000)}"
    if envoy.max_message_timeout_ms == 0:
        return f"{timeout}; waits are not extended"
    return f"{timeout} and max_message_timeout {duration(envoy.max_message_timeout_ms / 1000)} at least; the waits fit"


def _limits(config: Config) -> str:
    limits = config.limits
    return (
        f"questions up to {size(limits.request_bytes_max)} and {limits.json_depth_max} levels, with "
        f"{limits.json_values_max} values, answers up to "
        f"{size(limits.answer_bytes_max)}, {size(limits.capture_bytes_max)} of memory for all that are under way"
    )


def _stopping(config: Config) -> str:
    drain = config.drain
    return (
        f"NOT_SERVING for {duration(drain.notice_ms / 1000)}, then open streams have {duration(drain.streams_s)} "
        f"and writes {duration(drain.writes_s)}"
    )


def _rule(rule: Rule, config: Config) -> Rows:
    rows = [("for", _match(rule.match) or ("every LLM call" if rule.template is None else "every JSON request"))]
    if not rule.enabled:
        return (*rows, ("does", "nothing: matching requests are bypassed (rule_disabled)"))
    rows += (*_template(rule), *_apisix(rule), *semantic_rows(rule, config))
    jitter = f", less up to {rule.ttl_jitter:.0%}" if rule.ttl_jitter else ""
    rows.append(("kept for", "ever" if rule.ttl_s is None else f"{duration(rule.ttl_s)}{jitter}"))
    rows.append(("shared by", _sharing(rule)))
    if rule.fingerprint.headers:
        rows.append(("also asks", f"headers {listed(rule.fingerprint.headers, joint='and')} tell questions apart"))
    if rule.fingerprint.ignore:
        rows.append(("ignores", f"body fields {listed(rule.fingerprint.ignore, joint='and')}"))
    rows.append(("tool calls", "kept" if rule.keep_tool_calls and rule.template is None else "not kept"))
    obeyed = "overruled" if rule.overrules_upstream else "obeyed"
    rows.append(("upstream", f"its Cache-Control and Set-Cookie are {obeyed}"))
    rows.extend(rule_rows(rule))
    return tuple(rows)


def _match(match: Match) -> str:
    parts = [
        f"{topic} {listed(patterns)}"
        for topic, patterns in (
            ("route", match.routes),
            ("cluster", match.clusters),
            ("host", match.hosts),
            ("path", match.paths),
        )
        if patterns
    ]
    # Names only: the pattern of a credential header is a credential.
    parts += [f"a matching header {name}" for name in match.headers]
    return ", and ".join(parts)


def _template(rule: Rule) -> Rows:
    """Where question and answer stand, and in which form they are kept, where no built-in dialect says it."""
    if rule.template is None:
        return ()
    paths = rule.template
    every = "the texts of all messages with the role user, a line each"
    question = every if paths.question == "all" else f"what stands at `{paths.question_path}`"
    answers = f"the text at `{paths.answer_path}`, in the events of a stream at `{paths.stream_path}`"
    rows = (("question", question), ("answers", f"{answers}; none with anything at `{paths.tool_calls_path}`"))
    if rule.higress is None:
        return rows
    caller = "<caller>:" if rule.higress.share == "credential" else ""
    form = f"`{rule.higress.key_prefix}{caller}<question>`, with the text as its value, both in clear"
    return (*rows, ("kept as", f"{form}, as Higress' ai-cache has it"))


def _apisix(rule: Rule) -> Rows:
    if rule.apisix is None:
        return ()
    names = [*(["route"] if rule.apisix.route_id else []), *(["consumer"] if rule.apisix.consumer else [])]
    names += [*rule.apisix.variables, *(["caller"] if rule.apisix.share == "credential" else [])]
    scope = ":".join(f"{name}=<...>" for name in names) or "shared"
    return (("kept as", f"`{APISIX_KEY_PREFIX}{scope}:<fingerprint>`, in clear, as APISIX's ai-cache has it"),)


def _sharing(rule: Rule) -> str:
    if rule.higress is not None and rule.higress.share == "everyone":
        return "all callers, whatever their tenant, model and route, as in Higress"
    scope = rule.scope
    credentials = [*scope.credentials, *(f"?{name}=" for name in scope.parameters)]
    where = _place(scope)
    alike = [f"the same {listed(credentials)}"] if credentials else []
    alike += [f"the same {part.words}" for part in scope.identity]
    same = f"callers with {listed(alike, joint='and')}{where}" if alike else ""
    required = [part.words for part in scope.identity if part.required]
    if required:
        return f"{same}; callers without {listed(required)} are bypassed (no_identity)"
    if rule.anonymous == "shared":
        return f"{same}; all callers without any of them share" if same else f"all callers{where}"
    return f"{same}; callers with none of them are bypassed (no_credential)"


def _place(scope: Scope) -> str:
    match scope.route, scope.authority:
        case True, True:
            return ", on the same route and host"
        case True, False:
            return ", on the same route of any host"
        case False, True:
            return ", on the same host by any route"
        case _:
            return ", wherever they ask"
