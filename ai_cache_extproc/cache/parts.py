"""One process's cache, put together over a store. What runs beside the lookups is listed in `tasks`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_cache_extproc.cache.changes import Changes
from ai_cache_extproc.cache.exact import Exact
from ai_cache_extproc.cache.feedback import Feedback
from ai_cache_extproc.cache.flights import Flights
from ai_cache_extproc.cache.formats.apisix import Apisix
from ai_cache_extproc.cache.formats.base import Format
from ai_cache_extproc.cache.formats.higress import Higress
from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.cache.formats.seal import Seal
from ai_cache_extproc.cache.indexing import Indexing, id_in
from ai_cache_extproc.cache.inventory import ForeignId, Inventory
from ai_cache_extproc.cache.keysource import HasKeyring
from ai_cache_extproc.cache.leases import Leases
from ai_cache_extproc.cache.near import Near
from ai_cache_extproc.cache.payloads import Payloads
from ai_cache_extproc.cache.pipeline import Pipeline
from ai_cache_extproc.cache.purges import Purges
from ai_cache_extproc.cache.semantic import Semantic
from ai_cache_extproc.cache.shadow import Shadow
from ai_cache_extproc.cache.together import Together
from ai_cache_extproc.cache.transfer import Transfer
from ai_cache_extproc.cache.verifying import Verifying
from ai_cache_extproc.cache.writeback import Fill, WriteBack, nobody
from ai_cache_extproc.cache.wrong import WrongPairs
from ai_cache_extproc.config.apisix_values import KEY_PREFIX as APISIX_KEY_PREFIX
from ai_cache_extproc.config.model import Config, Rule, SqliteStore
from ai_cache_extproc.keys.apisix import apisix_id
from ai_cache_extproc.keys.identity import higress_id
from ai_cache_extproc.model import Entry, Hearing, Layout
from ai_cache_extproc.stores.base import ChangeFeed, LeaseKeeper, Store
from ai_cache_extproc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from ai_cache_extproc.embedders.base import Embedder
    from ai_cache_extproc.indexes.base import Index
    from ai_cache_extproc.verifiers.base import Verifier

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
    semantic: Semantic | None
    indexing: Indexing | None
    transfer: Transfer
    shadow: Shadow | None
    feedback: Feedback

    def tasks(self) -> tuple[Coroutine[None, None, None], ...]:
        """To be run until the process ends."""
        meaning = (part.run() for part in (self.semantic, self.indexing, self.shadow) if part is not None)
        return self.writeback.run(), self.leases.run(), self.purges.run(), *meaning, *self._index_tasks()

    def _index_tasks(self) -> Iterator[Coroutine[None, None, None]]:
        if self.semantic is not None:
            from ai_cache_extproc.indexes.base import Tended  # noqa: PLC0415 - numpy is there where there is an index

            if isinstance(self.semantic.index, Tended):
                yield self.semantic.index.tend()

    async def drain(self, seconds: float) -> bool:
        """Wait until all answers are stored; False if that took longer than `seconds`. What is left is for the index."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + seconds
        is_stored = await self.writeback.drain(seconds)
        if self.indexing is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await self.indexing.drain()
        return is_stored


@dataclass(frozen=True, slots=True)
class Meaning:
    """What questions are matched by their meaning with."""

    embedder: Embedder
    index: Index
    verifier: Verifier | None = None


def put_together(  # noqa: PLR0913 - a part each
    config: Config,
    store: Store,
    keys: HasKeyring,
    *,
    metrics: Metrics,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    chance: Callable[[], float] = random.random,
    store_timeout_s: float = STORE_TIMEOUT_S,
    meaning: Meaning | None = None,
) -> Cache:
    """Build every part; none of them starts anything. clock: seconds since the epoch. chance: 0..1, uniform.

    meaning: None where questions are matched exactly only.
    """
    near = Near(bytes_max=config.near.bytes_max, ttl_s_max=config.near.ttl_s_max, clock=clock, heard=config.prefixes)
    metrics.watch_near(lambda: near.entries, lambda: near.bytes)
    metrics.watch_hearing(lambda: float(near.hearing is Hearing.ALL))
    purges = Purges(keys, store, prefix=config.key_prefix, near=near, metrics=metrics, clock=clock)
    changes = Changes(near, purges)
    if isinstance(store, ChangeFeed):
        store.follow(changes)
    leases = Leases(_lease_keeper(config, store), metrics=metrics)
    ring = {key.id: key.secret for key in config.encryption.keys}
    formats = _formats(Seal(ring) if ring else None)
    exact = Exact(near=near, store=store, purges=purges, formats=formats, metrics=metrics)
    flights = Flights(clock=monotonic, ended=leases.ended)
    wrong, foreign = WrongPairs(store, purges, prefix=config.key_prefix), _foreign(config)
    id_of = _ids(config.key_prefix, foreign, purges)
    matching = _matching(meaning, exact, purges, wrong, metrics=metrics, clock=clock, chance=chance, id_of=id_of)
    together = Together(flights, leases, changes)
    writeback = WriteBack(
        exact=exact,
        together=together,
        metrics=metrics,
        clock=clock,
        entries_max=config.write_queue.entries_max,
        bytes_max=config.write_queue.bytes_max,
        store_timeout_s=store_timeout_s,
        stored=_stored(matching),
    )
    pipeline = Pipeline(
        exact=exact,
        together=together,
        writeback=writeback,
        keys=purges,
        semantic=matching.semantic,
        rechecks=never if matching.shadow is None else matching.shadow.rechecks,
        metrics=metrics,
        clock=clock,
        monotonic=monotonic,
        chance=chance,
    )
    kept = _Kept(store, purges, config.key_prefix, formats[Layout.NATIVE], clock)
    inventory = kept.inventory(foreign, matching.indexing, monotonic)
    return Cache(
        pipeline,
        writeback,
        near,
        flights,
        leases,
        purges,
        inventory,
        matching.semantic,
        matching.indexing,
        kept.transfer(matching.indexing, is_sealed=bool(ring), write_timeout_s=store_timeout_s),
        matching.shadow,
        Feedback(inventory, purges, wrong, clock=clock),
    )


def _formats(seal: Seal | None) -> Mapping[Layout, Format]:
    return {Layout.NATIVE: Native(seal), Layout.HIGRESS: Higress(), Layout.APISIX: Apisix()}


@dataclass(frozen=True, slots=True)
class _Kept:
    """What an operator's parts are made with."""

    store: Store
    purges: Purges
    prefix: str
    native: Format
    clock: Callable[[], float]

    def inventory(
        self, foreign: Mapping[str, ForeignId], indexing: Indexing | None, monotonic: Callable[[], float]
    ) -> Inventory:
        return Inventory(
            self.store,
            self.purges,
            prefix=self.prefix,
            foreign=foreign,
            native=self.native,
            monotonic=monotonic,
            clock=self.clock,
            beside=() if indexing is None else (indexing,),
        )

    def transfer(self, indexing: Indexing | None, *, is_sealed: bool, write_timeout_s: float) -> Transfer:
        return Transfer(
            self.store,
            self.purges,
            prefix=self.prefix,
            native=self.native,
            sealed=is_sealed,
            clock=self.clock,
            write_timeout_s=write_timeout_s,
            beside=indexing,
        )


@dataclass(frozen=True, slots=True)
class _Matching:
    """The parts that match by meaning; all of them, or none."""

    semantic: Semantic | None = None
    indexing: Indexing | None = None
    shadow: Shadow | None = None


def _matching(
    meaning: Meaning | None,
    exact: Exact,
    purges: Purges,
    wrong: WrongPairs,
    *,
    metrics: Metrics,
    clock: Callable[[], float],
    chance: Callable[[], float],
    id_of: Callable[[str], str],
) -> _Matching:
    if meaning is None:
        return _Matching()
    semantic = Semantic(
        embedder=meaning.embedder,
        index=meaning.index,
        payloads=Payloads(exact, purges),
        keys=purges,
        wrong=wrong,
        verifying=None if meaning.verifier is None else Verifying(meaning.verifier, metrics=metrics),
        metrics=metrics,
        clock=clock,
    )
    indexing = Indexing(semantic, metrics=metrics, id_of=id_of)
    return _Matching(semantic, indexing, Shadow(semantic, metrics=metrics, clock=clock, chance=chance))


def never(_rule: Rule) -> bool:
    """Of what is not done under any rule."""
    return False


def _stored(matching: _Matching) -> Callable[[Fill, Entry], None]:
    """Whom to tell of answers that are stored."""
    shadow, indexing = matching.shadow, matching.indexing
    if shadow is None or indexing is None:
        return nobody

    def told(fill: Fill, entry: Entry) -> None:
        shadow.offer(fill, entry)
        indexing.offer(fill.miss.identity, entry, ttl_s=fill.rule.semantic.ttl_s)

    return told


def _foreign(config: Config) -> Mapping[str, ForeignId]:
    """What the keys in other programs' layouts begin with."""
    foreign: dict[str, ForeignId] = {
        rule.higress.key_prefix: higress_id for rule in config.rules if rule.higress is not None
    }
    if any(rule.apisix is not None for rule in config.rules):
        foreign[APISIX_KEY_PREFIX] = apisix_id
    return foreign


def _ids(prefix: str, foreign: Mapping[str, ForeignId], purges: Purges) -> Callable[[str], str]:
    """What makes ids of keys in any layout. prefix: of our own."""

    def id_of(key: str) -> str:
        ring, is_ours = purges.current, bool(prefix) and key.startswith(prefix)
        make = None if is_ours else next((make for theirs, make in foreign.items() if key.startswith(theirs)), None)
        return id_in(key) if make is None or ring is None else make(ring, key)

    return id_of


def _lease_keeper(config: Config, store: Store) -> LeaseKeeper | None:
    """Whom to agree with other processes through; nobody where there are none."""
    if not isinstance(store, LeaseKeeper):
        return None
    alone = isinstance(config.store, SqliteStore) and config.workers == 1
    return None if alone else store
