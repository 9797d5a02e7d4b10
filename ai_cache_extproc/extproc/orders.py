"""What a supervisor and a worker process say to each other: an order on the worker's standard input, words on its output.

An order tells the worker all it needs to serve. The pipe stays open behind it: its end is the supervisor's end.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import orjson

from ai_cache_extproc import __version__
from ai_cache_extproc.config.load import Loaded
from ai_cache_extproc.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Order:
    """What worker `number` is to serve.

    loaded: the document in effect, whatever the file holds at this moment. flags: what the command line said, for reading
    the file again. listen: the worker's own addresses. admin: its private one, a Unix socket.
    """

    number: int
    loaded: Loaded
    flags: Mapping[str, object]
    listen: tuple[str, ...]
    admin: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker's word that it serves. listen: where, with the ports that the system chose."""

    listen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker's word that it cannot serve as it was ordered."""

    error: ConfigError


Word = Ready | Refused


def pack(order: Order) -> bytes:
    """The order as it travels: a line that says how long it is and who wrote it, then the order itself."""
    body = pickle.dumps(order)
    return orjson.dumps({"version": __version__, "bytes": len(body)}) + b"\n" + body


def unpack(read_exactly: Callable[[int], bytes]) -> Order:
    """Read one order and no byte more. read_exactly: so many bytes, or EOFError.

    Raises EOFError where the supervisor is gone, ConfigError for an order of another version.
    """
    head = bytearray()
    while not head.endswith(b"\n"):
        head += read_exactly(1)
    facts = orjson.loads(head)
    body = read_exactly(facts["bytes"])
    if facts["version"] != __version__:
        raise ConfigError(
            "",
            f"version {__version__} was installed beside the running {facts['version']}; restart the sidecar as a whole",
        )
    order = pickle.loads(body)  # noqa: S301 - from a parent to its child, as multiprocessing does it
    assert isinstance(order, Order)
    return order


def written(word: Word) -> bytes:
    """The word as a line."""
    match word:
        case Ready(listen):
            return orjson.dumps({"ready": listen}) + b"\n"
        case Refused(error):
            fault = {"path": error.path, "reason": error.reason, "source": error.source}
            return orjson.dumps({"refused": fault}) + b"\n"
        case _:
            assert_never(word)


def heard(line: bytes) -> Word | None:
    """The word in a line; None for whatever else a process prints."""
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    match said:
        case {"ready": [*listen]}:
            return Ready(tuple(listen))
        case {"refused": {"path": path, "reason": reason, "source": source}}:
            return Refused(ConfigError(path, reason, source=source))
        case _:
            return None
