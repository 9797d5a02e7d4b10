"""What is dangerous in an Envoy configuration, each with its way out: every check there is, in the order of telling."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ai_cache_extproc.cli import envoy_checks_around as around
from ai_cache_extproc.cli import envoy_checks_filter as own
from ai_cache_extproc.cli.dangers import Danger
from ai_cache_extproc.cli.envoy_reading import Site
from ai_cache_extproc.config.model import Config

Check = Callable[[Site, Config], Iterator[Danger]]

CHECKS: tuple[Check, ...] = (
    own.fails_closed,
    own.times_out,
    own.asks_for_bodies,
    own.forbids_overrides,
    own.is_muted,
    own.mutations,
    own.forwards,
    own.attributes,
    own.receives,
    around.order,
    around.routes,
    around.cuts,
    around.buffer,
    around.unknown_cluster,
    around.workers,
    around.breaker,
    around.speaks_http1,
    around.health,
    around.too_old,
)


def envoy_dangers(site: Site, config: Config) -> Iterator[Danger]:
    """Everything that is dangerous about the filter and what stands around it."""
    for check in CHECKS:
        for danger in check(site, config):
            yield Danger(f"{site.where}: {danger.what}", danger.fix)
