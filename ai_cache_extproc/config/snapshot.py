"""One immutable configuration, taken once per exchange: a reload changes the next exchange, never this one."""

from __future__ import annotations

from dataclasses import dataclass

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.patterns import AnyOf, Hosts, Wildcard
from ai_cache_extproc.config.prices import Tariffs
from ai_cache_extproc.config.rules import Match, Rule
from ai_cache_extproc.model import NOTHING_WANTED, RequestHead, Wanted


@dataclass(frozen=True, slots=True)
class _Matcher:
    """A rule's `match`, compiled; an empty part matches everything."""

    routes: AnyOf
    clusters: AnyOf
    hosts: Hosts
    paths: AnyOf
    headers: tuple[tuple[str, Wildcard], ...]

    @classmethod
    def of(cls, match: Match) -> _Matcher:
        return cls(
            AnyOf.of(match.routes),
            AnyOf.of(match.clusters),
            Hosts.of(match.hosts),
            AnyOf.of(match.paths),
            tuple((name, Wildcard.of(pattern)) for name, pattern in match.headers.items()),
        )

    def matches(self, head: RequestHead) -> bool:
        return (
            (self.routes.empty or self.routes.matches(head.route))
            and (self.clusters.empty or self.clusters.matches(head.cluster))
            and (self.hosts.empty or self.hosts.matches(head.authority))
            and (self.paths.empty or self.paths.matches(head.path.partition("?")[0]))
            and all(
                (value := head.headers.get(name)) is not None and pattern.matches(value)
                for name, pattern in self.headers
            )
        )


def _wanted(rules: tuple[Rule, ...]) -> Wanted:
    parts = [part for rule in rules for part in rule.scope.identity]
    attributes = dict.fromkeys(part.attribute for part in parts if part.attribute is not None)
    metadata = dict.fromkeys((part.metadata, *part.path) for part in parts if part.metadata is not None)
    return Wanted(tuple(attributes), tuple(metadata)) if attributes or metadata else NOTHING_WANTED


class Snapshot:
    """A configuration with its rules compiled. version: counts from 1, one more with each reload.

    wanted: what Envoy has to show of attributes and metadata, for any of the rules. tariffs: `prices`, compiled.
    """

    __slots__ = ("_catch_all", "_named", "_rules", "config", "tariffs", "version", "wanted")

    def __init__(self, config: Config, version: int = 1) -> None:
        self.config = config
        self.version = version
        self.tariffs = Tariffs(config.prices)
        self.wanted = _wanted(config.rules)
        self._named = {rule.name: rule for rule in config.rules}
        self._rules = tuple((_Matcher.of(rule.match), rule) for rule in config.rules)
        first = config.rules[0] if config.rules else None
        # The commonest document has one rule for everything: nothing is left to match.
        self._catch_all = first if first is not None and first.match == Match() else None

    def rule_for(self, head: RequestHead, named: str = "") -> Rule | None:
        """The first rule that matches; None where no rule does.

        named: the rule that Envoy's route names, whatever its `match`; None where there is none of that name.
        """
        if named:
            return self._named.get(named)
        if self._catch_all is not None:
            return self._catch_all
        for matcher, rule in self._rules:
            if matcher.matches(head):
                return rule
        return None


class SnapshotSource:
    """Holds the current snapshot. Replacing it is one assignment, so that readers never wait."""

    __slots__ = ("current",)

    def __init__(self, config: Config) -> None:
        self.current = Snapshot(config)

    def replace(self, config: Config) -> Snapshot:
        """Make `config` current for every exchange that begins from here on."""
        self.current = Snapshot(config, self.current.version + 1)
        return self.current
