"""One process's cache, put together over a store. What runs beside the lookups is listed in `tasks`."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

from ai_cache_extproc.cache.changes import Changes
from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.flights import Flights
from ai_cache_extproc.cache.formats.apisix import Apisix
from ai_cache_extproc.cache.formats.base import Format
from ai_cache_extproc.cache.formats.higress import Higress
from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.cache.formats.seal import Seal
from ai_cache_extproc.cache.inventory import ForeignId, Inventory
from ai_cache_extproc.cache.keysource import HasKeyring
from ai_cache_extproc.cache.leases import Leases
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.cache.pipeline import Pipeline
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.together import Together
from ai_cache_extproc.cache.writeback import WriteBack
from ai_cache_extproc.config.apisix_values import KEY_PREFIX as APISIX_KEY_PREFIX
from ai_cache_extproc.config.model import Config, SqliteStore
from ai_cache_extproc.keys.apisix import apisix_id
from ai_cache_extproc.keys.identity import higress_id
from ai_cache_extproc.model import Hearing, Layout
from ai_cache_extproc.stores.base import ChangeFeed, LeaseKeeper, Store
from ai_cache_extproc.telemetry.metrics import Metrics

STORE_TIMEOUT_S = 5.0
"""For one write behind the client's back, whatever the store's own limits are."""


@dataclass(frozen=True, slots=True)
class Cache:
    """What the rest of the process talks to: lookups and fills, and the parts that are watched."""

    pipeline: Pipeline
    writeback: WriteBack
    near: Near
    flights: Flights
    leases: Leases
    purges: Purges
    inventory: Inventory

    def tasks(self) -> tuple[Coroutine[None, None, None], ...]:
        """To be run until the process ends."""
        return self.writeback.run(), self.leases.run(), self.purges.run()


def put_together(
    config: Config,
    store: Store,
    keys: HasKeyring,
    *,
    metrics: Metrics,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    chance: Callable[[], float] = random.random,
    store_timeout_s: float = STORE_TIMEOUT_S,
) -> Cache:
    """Build every part; none of them starts anything. clock: seconds since the epoch. chance: 0..1, uniform."""
    near = Near(bytes_max=config.near.bytes_max, ttl_s_max=config.near.ttl_s_max, clock=clock, heard=config.prefixes)
    metrics.watch_near(lambda: near.entries, lambda: near.bytes)
    metrics.watch_hearing(lambda: float(near.hearing is Hearing.ALL))
    purges = Purges(keys, store, prefix=config.key_prefix, near=near, metrics=metrics, clock=clock)
    changes = Changes(near, purges)
    if isinstance(store, ChangeFeed):
        store.follow(changes)
    leases = Leases(_lease_keeper(config, store), metrics=metrics)
    ring = {key.id: key.secret for key in config.encryption.keys}
    formats: Mapping[Layout, Format] = {
        Layout.NATIVE: Native(Seal(ring) if ring else None),
        Layout.HIGRESS: Higress(),
        Layout.APISIX: Apisix(),
    }
    exact = Exact(near=near, store=store, purges=purges, formats=formats, metrics=metrics)
    flights = Flights(clock=monotonic, ended=leases.ended)
    writeback = WriteBack(
        exact=exact,
        flights=flights,
        leases=leases,
        metrics=metrics,
        clock=clock,
        entries_max=config.write_queue.entries_max,
        bytes_max=config.write_queue.bytes_max,
        store_timeout_s=store_timeout_s,
    )
    pipeline = Pipeline(
        exact=exact,
        together=Together(flights, leases, changes),
        writeback=writeback,
        keys=purges,
        metrics=metrics,
        clock=clock,
        monotonic=monotonic,
        chance=chance,
    )
    inventory = Inventory(
        store,
        purges,
        prefix=config.key_prefix,
        foreign=_foreign(config),
        native=formats[Layout.NATIVE],
        monotonic=monotonic,
        clock=clock,
    )
    return Cache(pipeline, writeback, near, flights, leases, purges, inventory)


def _foreign(config: Config) -> Mapping[str, ForeignId]:
    """What the keys in other programs' layouts begin with."""
    foreign: dict[str, ForeignId] = {
        rule.higress.key_prefix: higress_id for rule in config.rules if rule.higress is not None
    }
    if any(rule.apisix is not None for rule in config.rules):
        foreign[APISIX_KEY_PREFIX] = apisix_id
    return foreign


def _lease_keeper(config: Config, store: Store) -> LeaseKeeper | None:
    """Whom to agree with other processes through; nobody where there are none."""
    if not isinstance(store, LeaseKeeper):
        return None
    alone = isinstance(config.store, SqliteStore) and config.workers == 1
    return None if alone else store
