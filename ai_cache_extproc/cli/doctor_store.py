"""Examines the configured store: is it reached, may we do there what we must, is it fast enough, is its clock right.

Leaves nothing behind but what has a lifetime of seconds; makes no file that is not there.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from structlog.testing import capture_logs

from ai_cache_extproc.cli.dangers import Danger
from ai_cache_extproc.cli.words import duration, listed
from ai_cache_extproc.config.model import Config, MemoryStore, PluginStore, RedisStore, SqliteStore
from ai_cache_extproc.errors import BackendError, BackendRejected, ConfigError
from ai_cache_extproc.model import BreakerState
from ai_cache_extproc.plugins import store_origin
from ai_cache_extproc.stores import AnyStore, open_store
from ai_cache_extproc.stores.base import LeaseKeeper, Tended
from ai_cache_extproc.stores.sqlite import default_path

Finding = Danger | str
"""What is wrong, or what is well."""

_PROBES = 20
_TTL_S = 5.0
_CLOCK_S = 5.0
_PATIENCE_S = 2.0
_ACL = "give the user the rights that deploy/redis/users.acl lists, and `key_prefix` among its keys"


async def examine_store(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """What a sidecar with this configuration would meet. Raises nothing that a store does."""
    match config.store:
        case MemoryStore():
            return ["store: memory, which is always there"]
        case SqliteStore(path=path):
            where = path or default_path(environ)
            if not where.exists():
                return [f"store: {where} is made when the sidecar first starts"]
            permissions: list[Finding] = list(_permissions(where))
            return permissions + await _opened(config, str(where))
        case RedisStore():
            where_to = listed([parts.netloc.rpartition("@")[2] or parts.path for parts in config.store.parts])
            return await _opened(config, f"Redis {where_to}")
        case PluginStore(type=name):
            return await _opened(config, f"{name} of the package {store_origin(name)}")


def _permissions(path: Path) -> Iterator[Danger]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Danger(f"store: {path} has mode {mode:04o}, so that others can read answers", f"chmod 600 {path}")
    if not os.access(path, os.R_OK | os.W_OK):
        yield Danger(f"store: {path} is closed to this user", "run as the user of the sidecar")


async def _opened(config: Config, where: str) -> list[Finding]:
    try:
        # What goes wrong in the background is said in log lines alone.
        with capture_logs() as lines:
            return await _examined(config, where, lines)
    except ConfigError as error:
        return [Danger(f"store: {where} cannot be opened", error.reason)]
    except BackendError as error:
        return [Danger(f"store: {where}: {error.operation}: {error.reason}", _way_in(error.reason))]


async def _examined(config: Config, where: str, lines: Sequence[MutableMapping[str, Any]]) -> list[Finding]:
    async with _store(config) as store:
        if (problem := await _until_it_answers(store, _patience_s(config))) is not None:
            problem = next((str(line["reason"]) for line in lines if "reason" in line), problem)
            return [Danger(f"store: {where} does not answer ({problem})", _way_in(problem))]
        findings: list[Finding] = [f"store: {where} answers"]
        findings += await _rights(config, store)
        findings += await _speed(config, store)
        # Only Redis tells of itself.
        if isinstance(config.store, RedisStore):
            findings += await _facts(store)
        return findings


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator[AnyStore]:
    opening = open_store(
        config.store, prefix=config.key_prefix, heard=config.prefixes, clock=time.time, breaker_watch=_ignore
    )
    async with opening as store:
        if not isinstance(store, Tended):
            yield store
            return
        tending = asyncio.create_task(store.tend())
        try:
            yield store
        finally:
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)


def _ignore(_backend: str, _server: str, _state: BreakerState | None) -> None:
    """Leave breakers alone: a doctor asks a few times only."""


def _patience_s(config: Config) -> float:
    store = config.store
    return _PATIENCE_S + (store.connect_timeout_ms / 1000 if isinstance(store, RedisStore) else 0)


async def _until_it_answers(store: AnyStore, patience_s: float) -> str | None:
    """Why it does not; None once it does. Connections are made in the background."""
    reason = "no answer"
    deadline = asyncio.get_running_loop().time() + patience_s
    while asyncio.get_running_loop().time() < deadline:
        try:
            await store.check()
        except BackendError as error:
            reason = error.reason
        else:
            return None
        await asyncio.sleep(0.05)
    return reason


async def _rights(config: Config, store: AnyStore) -> list[Finding]:
    """Do once what serving does all the time."""
    key = f"{config.key_prefix}doctor:{os.urandom(8).hex()}"
    holder = os.urandom(16)
    tries: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("write", lambda: store.set(key, b"doctor", ttl_s=_TTL_S)),
        ("read", lambda: store.get(key)),
        ("delete", lambda: store.delete(key)),
    ]
    if isinstance(store, LeaseKeeper):
        tries += [
            ("take a lease", lambda: store.claim_lease(f"{key}:lease", holder, ttl_s=_TTL_S)),
            ("give a lease back", lambda: store.release_lease(f"{key}:lease", holder)),
        ]
    findings: list[Finding] = []
    for what, attempt in tries:
        try:
            await attempt()
        except BackendError as error:
            findings.append(Danger(f"store: may not {what} ({error.reason})", _way_in(error.reason, error)))
    return findings or [f"store: may {listed([what for what, _ in tries], joint='and')}"]


async def _speed(config: Config, store: AnyStore) -> list[Finding]:
    """How long reads take, against what a request may wait."""
    waits_ms = []
    for _ in range(_PROBES):
        before = time.perf_counter()
        await store.get(f"{config.key_prefix}doctor:none")
        waits_ms.append((time.perf_counter() - before) * 1000)
    usual_ms, budget_ms = median(waits_ms), config.lookup.deadline_ms
    said = f"store: a read takes {usual_ms:.1f} ms, at most {max(waits_ms):.1f} ms of {_PROBES}"
    budget = f"`lookup.deadline_ms` is {budget_ms}"
    if usual_ms * 2 > budget_ms:
        return [Danger(f"{said}; {budget}, and beyond it lookups are misses", "bring the store closer, or raise it")]
    return [f"{said}; {budget}"]


async def _facts(store: AnyStore) -> list[Finding]:
    from ai_cache_extproc.stores.redis import RedisStore as Store  # noqa: PLC0415 - redis-py takes long to import

    assert isinstance(store, Store)
    now_s = time.time()
    findings: list[Finding] = []
    for facts in await store.facts():
        findings.append(f"store: Redis {facts.get('redis_version', 'of unknown version')}")
        findings += _memory(facts)
        findings += _clock(facts, now_s)
    return findings


def _memory(facts: Mapping[str, str]) -> Iterator[Danger]:
    if facts.get("maxmemory") == "0":
        yield Danger(
            "store: Redis has no maxmemory: it grows until the machine is out of memory",
            "set `maxmemory` and `maxmemory-policy allkeys-lru`",
        )
    elif facts.get("maxmemory_policy") == "noeviction":
        yield Danger(
            "store: Redis evicts nothing (noeviction): once full it keeps no new answer",
            "set `maxmemory-policy allkeys-lru`",
        )


def _clock(facts: Mapping[str, str], now_s: float) -> Iterator[Finding]:
    """Entries say when they were made, by the clock of whoever made them."""
    told = facts.get("server_time_usec", "")
    if not told.isdigit():
        return
    apart_s = abs(int(told) / 1_000_000 - now_s)
    if apart_s > _CLOCK_S:
        yield Danger(
            f"store: the clocks of this machine and of Redis are {duration(round(apart_s))} apart: ages are wrong by that",
            "run NTP on both",
        )
    else:
        yield "store: its clock and ours agree"


def _way_in(reason: str, error: BackendError | None = None) -> str:
    """What to do about a refusal, by the words that Redis and TLS use."""
    lowered = reason.lower()
    if "noperm" in lowered or "permission" in lowered:
        return _ACL
    if "wrongpass" in lowered or "noauth" in lowered or "invalid username-password" in lowered:
        return "correct `store.username` and `store.password_file`"
    if "certificate" in lowered or "ssl" in lowered or "tls" in lowered:
        return "correct `store.tls.ca_file`, and the host that `store.url` names"
    if isinstance(error, BackendRejected):
        return "look into the log of the store"
    return "start it, or correct `store`"
