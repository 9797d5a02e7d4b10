"""Entries and purges of several workers, at their one admin address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.asking import Asking
from ai_cache_extproc.admin.fleet import FleetPages
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.stores.sqlite import SqliteStore
from ai_cache_extproc.telemetry.fleet import FleetMetrics
from ai_cache_extproc.telemetry.merge import Ledger
from tests.exchange.conversation import Clock, Core, core, running
from tests.support.admin_client import LOCAL, Asked, Seat, pages_of
from tests.support.entries import BEARER, TOKEN


@asynccontextmanager
async def fleet(folder: Path, *, shared: bool) -> AsyncIterator[tuple[Asked, list[Core]]]:
    """Two workers behind one address, over one SQLite file or each with a memory of its own."""
    async with AsyncExitStack() as stack:
        cores, sockets = [], [folder / f"{number}.sock" for number in (0, 1)]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for socket in sockets:
            if shared:
                clock = Clock()
                store = await stack.enter_async_context(
                    SqliteStore.open(folder / "cache.db", bytes_max=2**24, clock=clock)
                )
                keyring = Keyring(b"k" * 32, "aicache:")
                parts = await stack.enter_async_context(running(Core(Config(), store, keyring=keyring, clock=clock)))
            else:
                parts = await stack.enter_async_context(core())
            listener = Admin(f"unix:{socket}", pages_of(parts, Access(TOKEN, is_private=True)).app())
            listener.bind()
            group.create_task(listener.run())
            stack.callback(listener.close)
            cores.append(parts)
        seats = [Seat(number, pid=1) for number in (0, 1)]
        pages = FleetPages(
            asking=Asking(seats, sockets),
            ledger=Ledger(),
            metrics=FleetMetrics(2),
            config=Config,
            monotonic=lambda: 0.0,
            shared_store=shared,
            access=LOCAL,
        )
        transport = httpx2.ASGITransport(pages.app())
        client = httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER)
        yield Asked(cores[0], await stack.enter_async_context(client)), cores


async def test_workers_over_one_store_purge_for_all(tmp_path: Path) -> None:
    """One of them does the work; the other's near copies are gone when the call returns."""
    async with fleet(tmp_path, shared=True) as (asked, cores):
        (id_,) = await asked.ids("m")
        assert id_ == await Asked(cores[1], asked.client).hit("m")
        assert 1 == cores[1].near.entries
        assert id_ == (await asked.get(f"/entries/{id_}"))[1]["id"]
        assert 1 == (await asked.get("/entries?model=m"))[1]["matched"]
        status, purged = await asked.post("/purge", {"filter": {"id": id_}, "dry_run": False})
        assert (200, 1, 1) == (status, purged["removed"], purged["purge"])
        assert [0, 0] == [parts.near.entries for parts in cores]
        assert [1, 1] == [parts.cache.purges.marks.number for parts in cores]
        assert (200, {"epoch": 2, "purge": 2}) == await asked.post("/flush")
        assert [2, 2] == [parts.cache.purges.marks.epoch for parts in cores]
        assert 2 == (await asked.get("/purges"))[1]["epoch"]


async def test_workers_with_stores_of_their_own_all_purge(tmp_path: Path) -> None:
    """Their counts are one, and a walk that is not over goes on in each."""
    async with fleet(tmp_path, shared=False) as (asked, cores):
        ids = [(await Asked(parts, asked.client).ids("m", "n"))[0] for parts in cores]
        assert ids[0] == ids[1]
        assert 200 == (await asked.get(f"/entries/{ids[0]}"))[0]
        assert 404 == (await asked.get(f"/entries/{'0' * 32}"))[0]
        status, page = await asked.get("/entries?limit=1000")
        assert (200, 4, 4, None) == (status, page["matched"], len(page["entries"]), page["cursor"])
        status, purged = await asked.post("/purge", {"filter": {"model": "m"}, "dry_run": False})
        assert (200, 2, None) == (status, purged["removed"], purged["cursor"])
        assert 200 == (await asked.post("/flush"))[0]
        assert [2, 2] == [parts.cache.purges.marks.epoch for parts in cores]


async def test_a_walk_over_several_stores_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cursor holds those of the workers."""
    monkeypatch.setattr("ai_cache_extproc.cache.inventory.STEP_KEYS", 1)
    monkeypatch.setattr("ai_cache_extproc.cache.inventory.WALK_KEYS_MAX", 1)
    async with fleet(tmp_path, shared=False) as (asked, cores):
        for parts in cores:
            await Asked(parts, asked.client).ids("m", "n", "o")
        removed, cursor, calls = 0, None, 0
        while calls == 0 or cursor:
            status, purged = await asked.post("/purge", {"filter": {"all": True}, "dry_run": False, "cursor": cursor})
            assert 200 == status
            removed, cursor, calls = removed + purged["removed"], purged["cursor"], calls + 1
        assert 6 == removed
        assert 3 <= calls
        await Asked(cores[0], asked.client).ids("m", "n")
        found, cursor = 0, ""
        while True:
            status, page = await asked.get(
                "/entries", params={"limit": 1, "cursor": cursor} if cursor else {"limit": 1}
            )
            found, cursor = found + page["matched"], page["cursor"]
            if not cursor:
                break
        assert 2 == found


async def test_a_fleet_refuses_as_one_sidecar_does(tmp_path: Path) -> None:
    """A call without the token, what its workers refuse, and what no worker answers."""
    async with fleet(tmp_path, shared=False) as (asked, _):
        assert 401 == (await asked.client.post("/flush", headers={"authorization": "Bearer no"})).status_code
        assert 400 == (await asked.post("/purge", {"filter": {}}))[0]
        assert 400 == (await asked.get("/entries?colour=red"))[0]
        assert 400 == (await asked.get("/entries?cursor=rubbish"))[0]
        assert 400 == (await asked.client.post("/purge", content=b"[")).status_code
        assert 400 == (await asked.client.post("/purge", content=b"[]")).status_code
        assert 413 == (await asked.client.post("/purge", content=b"x" * 70_000)).status_code


async def test_without_workers_nobody_purges(tmp_path: Path) -> None:
    """The call says to try again."""
    pages = FleetPages(
        asking=Asking([Seat(0, pid=1)], [tmp_path / "nobody.sock"], timeout_s=0.05),
        ledger=Ledger(),
        metrics=FleetMetrics(1),
        config=Config,
        monotonic=lambda: 0.0,
        shared_store=True,
        access=LOCAL,
    )
    transport = httpx2.ASGITransport(pages.app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER) as client:
        assert 503 == (await client.post("/flush")).status_code
        assert 503 == (await client.get("/entries")).status_code


async def exported(asked: Asked) -> tuple[dict[str, object], list[str]]:
    """Whose entries they are, and their keys."""
    _, page = await asked.get("/entries")
    return (await asked.get("/export"))[1], [entry["key"] for entry in page["entries"]]


async def test_workers_over_one_store_export_and_import_as_one(tmp_path: Path) -> None:
    """One of them does it."""
    async with fleet(tmp_path, shared=True) as (asked, _):
        await asked.ids("m")
        about, keys = await exported(asked)
        status, given = await asked.post("/export", {"keys": keys})
        assert (200, keys) == (status, [entry["key"] for entry in given["entries"]])
        status, taken = await asked.post("/import", about | {"entries": given["entries"]})
        assert (200, {"known": 1}) == (status, taken["counts"])
        assert 409 == (await asked.post("/import", about | {"mark": "", "entries": []}))[0]


async def test_workers_with_stores_of_their_own_export_and_import_all_of_them(tmp_path: Path) -> None:
    """Each is given what any of them had."""
    async with fleet(tmp_path, shared=False) as (asked, cores):
        await asked.ids("m")
        await Asked(cores[1], asked.client).ids("n")
        about, keys = await exported(asked)
        status, given = await asked.post("/export", {"keys": [*keys, "none"]})
        assert (200, {*keys}, {"none": "gone"}) == (
            status,
            {entry["key"] for entry in given["entries"]},
            given["left_out"],
        )
        status, taken = await asked.post("/import", about | {"entries": given["entries"]})
        assert (200, 2) == (status, taken["entries"])
        assert [2, 2] == [await parts.stored() for parts in cores]
        assert 400 == (await asked.post("/import", {"entries": 1}))[0]


async def test_workers_with_keys_of_their_own_have_nothing_to_exchange(tmp_path: Path) -> None:
    """Their entries have other names; the refusal says what to configure."""
    async with fleet(tmp_path, shared=False) as (asked, cores):
        cores[1].keys.current = Keyring(b"o" * 32, "aicache:")  # type: ignore[misc]  # as each memory store makes one up
        status, document = await asked.get("/export")
        assert 409 == status
        assert "identity.key_file" in document["error"]
