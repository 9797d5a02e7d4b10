"""What to think twice about in a configuration, each with its way out. Pure: `check` and `doctor` both say it.

One small function for each kind of danger; DANGERS lists them in the order in which they are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from ai_cache_extproc.cli.plan_controls import warnings as control_warnings
from ai_cache_extproc.cli.plan_semantic import meaning_warnings
from ai_cache_extproc.cli.words import duration, listed
from ai_cache_extproc.config.addresses import TcpAddress, parse_address
from ai_cache_extproc.config.http import HttpService
from ai_cache_extproc.config.load import Loaded
from ai_cache_extproc.config.model import MemoryStore, RedisStore
from ai_cache_extproc.config.rules import Match, Rule, widenings
from ai_cache_extproc.config.section import Section

LONG_TTL_S = 12 * 3600
"""An answer older than half a day surprises people."""

_NARROWER = "if they are not one party, leave out what widens `scope` and `anonymous: shared`"


@dataclass(frozen=True, slots=True)
class Danger:
    """what: the setting and what comes of it. fix: the way out."""

    what: str
    fix: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.what}; {self.fix}"


def dangers(loaded: Loaded) -> Iterator[Danger]:
    """Everything that is dangerous in a configuration that may start."""
    for check in DANGERS:
        yield from check(loaded)


def _sharing(loaded: Loaded) -> Iterator[Danger]:
    for sentence in widenings(loaded.config.rules):
        what, semicolon, fix = sentence.partition("; ")
        yield Danger(what, fix if semicolon else _NARROWER)


def _lifetimes(loaded: Loaded) -> Iterator[Danger]:
    for rule in _enabled(loaded):
        if rule.ttl_s is None:
            setting = "ttl_s" if loaded.translation is None else "cacheTTL"
            yield Danger(f'rule "{rule.name}": answers never expire', f"`{setting}: 3600` lets them live for an hour")
        elif rule.ttl_s > LONG_TTL_S:
            yield Danger(
                f'rule "{rule.name}": answers are served for {duration(rule.ttl_s)}; models and facts change',
                "`ttl_s: 3600` is the default",
            )


def _overruled(loaded: Loaded) -> Iterator[Danger]:
    for rule in _enabled(loaded):
        if rule.ignore_upstream_cache_control:
            yield Danger(
                f'rule "{rule.name}": answers that the upstream calls private or no-store are kept',
                "leave out `ignore_upstream_cache_control` where the upstream means it",
            )


def _controls(loaded: Loaded) -> Iterator[Danger]:
    for sentence in control_warnings(loaded.config):
        what, _, fix = sentence.partition("; ")
        yield Danger(what, fix)


def _open_addresses(loaded: Loaded) -> Iterator[Danger]:
    config = loaded.config
    for text in config.listen:
        if _is_open(text):
            yield Danger(
                f"listen {text}: whoever reaches it can read and fill the cache",
                "use 127.0.0.1 or unix:PATH, or keep all but Envoy off that network",
            )
    if config.admin and _is_open(config.admin):
        yield Danger(
            f"admin {config.admin}: whoever reaches it sees the figures, and the token crosses the network in clear",
            "use 127.0.0.1 or unix:PATH",
        )


def _redis_wire(loaded: Loaded) -> Iterator[Danger]:
    """What anyone between the sidecar and Redis can do."""
    store = loaded.config.store
    if not isinstance(store, RedisStore):
        return
    plain = [parts.netloc.rpartition("@")[2] for parts in store.parts if parts.scheme == "redis"]
    far = [host for host in plain if not _is_near(host)]
    if far:
        yield Danger(
            f"store.url {listed(far, joint='and')}: answers and the password cross the network in clear",
            "begin it with rediss:// (TLS)"
            if loaded.translation is None
            else "a document of ours (`aicache convert`) can begin it with rediss:// (TLS)",
        )
    if store.parts[0].scheme != "rediss":
        return
    if not store.tls.verify:
        yield Danger(
            "store.tls.verify is false: whoever stands between can read and change answers",
            "leave it out, and name your own authority in `store.tls.ca_file`",
        )
    elif not store.tls.check_hostname:
        yield Danger(
            "store.tls.check_hostname is false: any server with a certificate of the same authority is taken for Redis",
            "leave it out, and name in `store.url` the host that the certificate names",
        )


def _services(loaded: Loaded) -> Iterator[Danger]:
    return service_dangers(loaded.config)


def service_dangers(section: Section) -> Iterator[Danger]:
    """Of embedders, indexes and whatever else a section has that is asked over HTTP."""
    for where, service in _http_services(section, ""):
        parts = urlsplit(service.url)
        if parts.scheme == "http" and not _is_near(parts.netloc):
            yield Danger(
                f"{where}.url {parts.netloc}: questions and keys cross the network in clear", "begin it with https://"
            )
        if parts.scheme == "https" and not service.tls.verify:
            yield Danger(
                f"{where}.tls.verify is false: whoever stands between can read questions and keys",
                f"leave it out, and name your own authority in `{where}.tls.ca_file`",
            )
        if service.allow_link_local:
            yield Danger(
                f"{where}.allow_link_local: whoever controls the name of the service can have the sidecar ask for this "
                "machine's cloud credentials",
                "leave it out, and give the service an address of another range",
            )


def _http_services(section: Section, where: str) -> Iterator[tuple[str, HttpService]]:
    if isinstance(section, HttpService):
        yield where, section
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _http_services(value, f"{where}.{name}" if where else name)


def _redis_names(loaded: Loaded) -> Iterator[Danger]:
    config = loaded.config
    if isinstance(config.store, RedisStore) and not config.key_prefix:
        yield Danger(
            "key_prefix is empty: a purge then looks at every key of the database, and tracking hears of all of them",
            '`key_prefix: "aicache:"` is the default',
        )


def _meaning(loaded: Loaded) -> Iterator[Danger]:
    for sentence in meaning_warnings(loaded.config):
        what, _, fix = sentence.partition("; ")
        yield Danger(what, fix)


def _lonely_memory(loaded: Loaded) -> Iterator[Danger]:
    config = loaded.config
    if config.workers > 1 and isinstance(config.store, MemoryStore):
        yield Danger(
            f"store: each of the {config.workers} workers keeps its own answers in memory, where the others do not find "
            "them",
            "`store: {type: sqlite}` is shared by all of them",
        )


def _idle_rules(loaded: Loaded) -> Iterator[Danger]:
    config = loaded.config
    if not config.rules:
        yield Danger("there is no rule: every LLM call is bypassed (no_rule)", "leave `rules` out for the default one")
    for shadowed, by in _shadowed(config.rules):
        yield Danger(
            f'rule "{shadowed}": applies only where a route names it (x-ai-cache-rule), since "{by}" before it matches '
            "everything",
            f'put it before "{by}"',
        )


def _enabled(loaded: Loaded) -> Iterator[Rule]:
    return (rule for rule in loaded.config.rules if rule.enabled)


def _is_open(text: str) -> bool:
    address = parse_address(text)
    return isinstance(address, TcpAddress) and not address.loopback


def _is_near(host: str) -> bool:
    """Whether `HOST:PORT` is this machine."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _shadowed(rules: tuple[Rule, ...]) -> Iterator[tuple[str, str]]:
    catch_all = None
    for rule in rules:
        if catch_all is not None:
            yield rule.name, catch_all
        elif rule.match == Match():
            catch_all = rule.name


DANGERS: tuple[Callable[[Loaded], Iterator[Danger]], ...] = (
    _sharing,
    _lifetimes,
    _overruled,
    _controls,
    _open_addresses,
    _redis_wire,
    _redis_names,
    _services,
    _meaning,
    _lonely_memory,
    _idle_rules,
)
