"""The store of an APISIX document: the one Redis that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import SecretStr

from ai_cache_extproc.config.addresses import TcpAddress
from ai_cache_extproc.config.apisix_document import AiCache
from ai_cache_extproc.config.apisix_secrets import PASSWORD, file_of, secret_of
from ai_cache_extproc.config.higress_notes import Note
from ai_cache_extproc.config.higress_services import is_host
from ai_cache_extproc.config.model import Lookup


def store_of(config: AiCache) -> dict[str, object]:
    """The store as native values, but for the password. Raises ValueError for a host that is none."""
    if not is_host(config.redis_host):
        raise ValueError("is no host name; write it without a scheme, a port and brackets")
    scheme = "rediss" if config.redis_ssl else "redis"
    number = f"/{config.redis_database}" if config.redis_database else ""
    address = TcpAddress(config.redis_host, config.redis_port)
    values: dict[str, object] = {"type": "redis", "url": f"{scheme}://{address}{number}"}
    if config.redis_ssl and not config.redis_ssl_verify:
        values["tls"] = {"verify": False, "check_hostname": False}
    values["timeout_ms"] = min(config.redis_timeout, Lookup().deadline_ms)
    values["write_timeout_ms"] = values["connect_timeout_ms"] = config.redis_timeout
    return values


def password_of(config: AiCache, environ: Mapping[str, str]) -> dict[str, object]:
    """How to log in, as native values. Raises ValueError for what the document says, ConfigError for the environment."""
    # Without a password APISIX names no user either.
    user = {"username": config.redis_username} if config.redis_username else {}
    if file := file_of(PASSWORD, environ):
        # The store reads it anew for every connection.
        return {"password_file": str(file), **user}
    password: SecretStr | None = secret_of(config.redis_password, PASSWORD, environ)
    return {} if password is None else {"password": password, **user}


def said_of_store(config: AiCache, store: Mapping[str, object]) -> Iterator[Note]:
    """Locations are within the configuration. store: what it came to."""
    if config.redis_username and "username" not in store:
        yield Note(("redis_username",), "is not used without a password, as in the plugin")
    deadline_ms = Lookup().deadline_ms
    if config.redis_timeout > deadline_ms:
        default = "" if "redis_timeout" in config.model_fields_set else " (the plugin's default)"
        yield Note(
            ("redis_timeout",),
            f"{config.redis_timeout} ms{default} is longer than a lookup may take; {deadline_ms} ms hold, then the "
            "request goes upstream",
            "AICACHE__LOOKUP__DEADLINE_MS with AICACHE__STORE__TIMEOUT_MS allow more",
        )
    if config.redis_ssl and not config.redis_ssl_verify:
        default = "" if "redis_ssl_verify" in config.model_fields_set else " (the plugin's default)"
        yield Note(
            ("redis_ssl_verify",),
            f"false{default} takes any certificate: whoever stands between can read and change answers",
            "write `redis_ssl_verify: true`",
        )
    if config.redis_ssl_verify and not config.redis_ssl:
        yield Note(("redis_ssl_verify",), "verifies nothing without TLS, as in the plugin", "write `redis_ssl: true`")
    for name in ("redis_keepalive_timeout", "redis_keepalive_pool"):
        if name in config.model_fields_set:
            yield Note((name,), "is not needed: one connection carries all requests and stays open")
