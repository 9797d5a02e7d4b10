"""Envoy's messages as plain values, and what is found of our filter among them. No types of Envoy's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from ai_cache_extproc.cli.envoy_names import FILTER_NAME

Message = Mapping[str, object]

_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")


@dataclass(frozen=True, slots=True)
class Site:
    """One ext_proc filter. where: the listener, or what there is. before, after: kinds of the filters around it.

    listener: None where the document shows none. clusters: by name; None where the document shows none at all.
    routes: those that are shown, each with what its host says of filters. name, off: of the filter in its list.
    version: Envoy's own, major and minor, where a running one says it.
    """

    where: str
    filter: Message
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    listener: Message | None = None
    clusters: Mapping[str, Message] | None = None
    routes: tuple[Message, ...] = ()
    name: str = FILTER_NAME
    off: bool = False
    version: tuple[int, int] | None = None

    def override(self, route: Message) -> Message | None:
        """What a route says of the filter; None where it says nothing."""
        said = part(route, "typed_per_filter_config").get(self.name)
        return cast("Message", said) if isinstance(said, dict) else None

    @property
    def asking(self) -> tuple[Message, ...]:
        """The routes on which the sidecar is asked."""
        said = [(route, self.override(route)) for route in self.routes]
        if self.off:
            return tuple(route for route, own in said if own is not None and own.get("disabled") is not True)
        return tuple(route for route, own in said if own is None or own.get("disabled") is not True)

    @property
    def cluster_name(self) -> str:
        """Where the filter sends what it sees."""
        return text(part(part(self.filter, "grpc_service"), "envoy_grpc"), "cluster_name")

    @property
    def cluster(self) -> Message | None:
        """The sidecar's cluster, if the document shows it."""
        return None if self.clusters is None else self.clusters.get(self.cluster_name)


def part(message: Message, name: str) -> Message:
    """A message inside; empty where there is none."""
    value = message.get(name)
    return cast("Message", value) if isinstance(value, dict) else {}


def text(message: Message, name: str) -> str:
    """A text field; empty where there is none."""
    value = message.get(name)
    return value if isinstance(value, str) else ""


def each(message: Message, name: str) -> Iterator[Message]:
    """The messages of a list."""
    value = message.get(name)
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield cast("Message", item)


def words(message: Message, name: str) -> tuple[str, ...]:
    """The texts of a list."""
    value = message.get(name)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def number(message: Message, name: str, *, default: int) -> int:
    """A whole number, which JSON may have as text."""
    value = message.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdigit() else default


def milliseconds(message: Message, name: str, *, default: float) -> float:
    """A duration (`0.5s`)."""
    found = _DURATION.fullmatch(text(message, name))
    return default if found is None else float(found[1]) * 1000


def snake(value: object) -> object:
    """The same with field names as in Envoy's documentation; its JSON may also spell them in camel case."""
    if isinstance(value, dict):
        return {_snake(str(key)): snake(member) for key, member in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value


def _snake(name: str) -> str:
    return name if "." in name or "_" in name or "-" in name else _CAPITAL.sub(r"_\1", name).lower()


def kind(message: Message) -> str:
    """The last word of a typed configuration's type (`Router`); the name where the configuration comes later."""
    return text(part(message, "typed_config"), "@type").rpartition(".")[2] or text(message, "name")
