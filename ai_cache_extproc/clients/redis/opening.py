"""From the settings of a Redis to a client of it."""

from __future__ import annotations

from collections.abc import Callable

from ai_cache_extproc.clients.redis.address import Login, Server, Tls
from ai_cache_extproc.clients.redis.client import RedisClient
from ai_cache_extproc.clients.redis.node import NodeOptions
from ai_cache_extproc.clients.redis.topology import ClusterSlots, OneServer, SentinelMaster, Topology
from ai_cache_extproc.config.stores import REDIS_PORT, SENTINEL_PORT, RedisService, Sentinel
from ai_cache_extproc.model import BreakerState

_SILENCE_S = 3.0
_REPLY_BYTES_MAX = 64 * 1024 * 1024


def client_of(
    settings: RedisService,
    *,
    heard: tuple[str, ...],
    breaker_changed: Callable[[str, BreakerState | None], None],
) -> RedisClient:
    """A client that connects once it is tended. heard: prefixes of the keys whose changes are to be told."""
    options = NodeOptions(
        login=_login(settings.login_name, settings),
        tls=_tls(settings),
        database=settings.database,
        prefixes=heard,
        timeout_s=settings.timeout_ms / 1000,
        write_timeout_s=settings.write_timeout_ms / 1000,
        connect_timeout_s=settings.connect_timeout_ms / 1000,
        probe_s=settings.probe_ms / 1000,
        silence_s=_SILENCE_S,
        reply_bytes_max=_REPLY_BYTES_MAX,
        failures_max=settings.failures_max,
    )
    return RedisClient(_topology(settings), options, breaker_changed=breaker_changed)


def _topology(settings: RedisService) -> Topology:
    tls, timeout_s, sentinel = _tls(settings), settings.connect_timeout_ms / 1000, settings.sentinel
    port = REDIS_PORT if sentinel is None else SENTINEL_PORT
    servers = [
        Server(path=parts.path) if parts.scheme == "unix" else Server(parts.hostname or "", parts.port or port)
        for parts in settings.parts
    ]
    if sentinel is not None:
        login = _login(sentinel.username, sentinel)
        return SentinelMaster(servers, sentinel.master, login=login, tls=tls, timeout_s=timeout_s)
    if settings.is_cluster:
        login = _login(settings.login_name, settings)
        return ClusterSlots(servers, login=login, tls=tls, timeout_s=timeout_s)
    return OneServer(servers[0])


def _tls(settings: RedisService) -> Tls | None:
    if settings.parts[0].scheme != "rediss":
        return None
    tls = settings.tls
    return Tls(tls.ca_file, tls.certificate_file, tls.key_file, check_hostname=tls.check_hostname, verify=tls.verify)


def _login(username: str | None, holder: RedisService | Sentinel) -> Login:
    password = holder.password
    return Login(username, None if password is None else password.get_secret_value(), holder.password_file)
