"""Feedback and shadow mode at the admin address: of one process, of several, and from the terminal."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.asking import Asking
from ai_cache_extproc.admin.fleet import FleetPages
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.admin.shadows import share
from ai_cache_extproc.cli.pairs import VERDICTS
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.stores.sqlite import SqliteStore
from ai_cache_extproc.telemetry.fleet import FleetMetrics
from ai_cache_extproc.telemetry.merge import Ledger
from tests.exchange.conversation import Clock, core
from tests.exchange.meaning import SAME, STAR, MeaningCore, meaning_core, semantic_config
from tests.exchange.test_feedback import hit_by_meaning, id_of
from tests.exchange.test_shadow import ANSWERS, BALL, GAS, ROCK, looked, shadow_config
from tests.support.admin_client import LOCAL, Seat, pages_of
from tests.support.entries import BEARER, TOKEN
from tests.support.terminal import Terminal, terminal

NOBODY = "0" * 32


@asynccontextmanager
async def one(
    config: Config | None = None, *, headers: dict[str, str] = BEARER
) -> AsyncIterator[tuple[MeaningCore, httpx2.AsyncClient]]:
    """A core that matches by meaning, and a client of its admin address."""
    async with meaning_core(config, about=ANSWERS) as parts:
        transport = httpx2.ASGITransport(pages_of(parts, LOCAL).app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            yield parts, client


@asynccontextmanager
async def fleet(
    folder: Path, config: Config, *, shared: bool
) -> AsyncIterator[tuple[list[MeaningCore], httpx2.AsyncClient]]:
    """Two workers behind one address, over one SQLite file or each with a memory of its own."""
    async with AsyncExitStack() as stack:
        cores, sockets = [], [folder / f"{number}.sock" for number in (0, 1)]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for socket in sockets:
            opening = SqliteStore.open(folder / "cache.db", bytes_max=2**24, clock=Clock())
            store = await stack.enter_async_context(opening) if shared else None
            parts = await stack.enter_async_context(meaning_core(config, about=ANSWERS, store=store))
            listener = Admin(f"unix:{socket}", pages_of(parts, Access(TOKEN, is_private=True)).app())
            listener.bind()
            group.create_task(listener.run())
            stack.callback(listener.close)
            cores.append(parts)
        pages = FleetPages(
            asking=Asking([Seat(number) for number in (0, 1)], sockets),
            ledger=Ledger(),
            metrics=FleetMetrics(2),
            config=lambda: config,
            monotonic=lambda: 0.0,
            shared_store=shared,
            access=LOCAL,
        )
        transport = httpx2.ASGITransport(pages.app())
        client = httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER)
        yield cores, await stack.enter_async_context(client)


# Feedback.


async def test_a_bad_hit_is_told_by_its_id() -> None:
    """The answer names the pair; the log says who, and no text."""
    async with one() as (parts, client):
        asked, source = await hit_by_meaning(parts)
        with capture_logs() as lines:
            response = await client.post(f"/entries/{asked}/wrong")
        assert (response.status_code, response.json()) == (200, {"pair": [asked, source], "removed": 1, "purge": 1})
        (line,) = [line for line in lines if line["event"] == "admin_wrong"]
        assert (line["caller"], line["ids"]) == ("token", [asked, source])
        assert "star" not in str(line)
        response = await client.post(f"/entries/{asked}/wrong")
        assert (response.status_code, response.json()["error"]) == (404, "no entry of this id")


async def test_an_exact_hit_is_no_pair() -> None:
    """409, with the way out."""
    async with one() as (parts, client):
        await parts.asks(STAR)
        response = await client.post(f"/entries/{id_of(await parts.asks(STAR))}/wrong")
        assert response.status_code == 409
        assert "DELETE" in response.json()["error"]


async def test_an_entry_is_deleted_with_what_answers_in_its_place() -> None:
    """Both are named."""
    async with one() as (parts, client):
        asked, source = await hit_by_meaning(parts)
        with capture_logs() as lines:
            response = await client.delete(f"/entries/{asked}")
        assert (response.status_code, response.json()) == (200, {"ids": [asked, source], "removed": 2, "purge": 2})
        assert [line["ids"] for line in lines if line["event"] == "admin_remove"] == [[asked, source]]
        assert (await client.get(f"/entries/{source}")).status_code == 404
        assert (await client.delete(f"/entries/{source}")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", f"/entries/{NOBODY}"), ("POST", f"/entries/{NOBODY}/wrong"), ("GET", "/shadow")]
)
async def test_nobody_acts_without_the_token(method: str, path: str) -> None:
    """As for the other calls; shadow mode's figures are the operator's too."""
    async with one(headers={}) as (_, client):
        assert (await client.request(method, path)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/entries/x"),
        ("POST", "/entries/x/wrong"),
        ("DELETE", f"/entries/{NOBODY}?cursor=x"),
        ("POST", f"/entries/{NOBODY}/wrong?cursor=x"),
    ],
)
async def test_what_is_no_id_and_no_cursor_is_refused(method: str, path: str) -> None:
    """With 400."""
    async with one() as (_, client):
        assert (await client.request(method, path)).status_code == 400


async def test_a_walk_that_is_not_over_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """404 with a cursor, until it is found."""
    monkeypatch.setattr("ai_cache_extproc.cache.inventory.STEP_KEYS", 1)
    monkeypatch.setattr("ai_cache_extproc.cache.inventory.WALK_KEYS_MAX", 1)
    async with one() as (parts, client):
        asked, source = await hit_by_meaning(parts)
        cursor, statuses = "", list[int]()
        while statuses[-1:] != [200]:
            response = await client.delete(f"/entries/{max(asked, source)}", params={"cursor": cursor})
            statuses.append(response.status_code)
            cursor = response.json().get("cursor")
        assert statuses == [404, 200]


@pytest.mark.parametrize("shared", [True, False], ids=["one store", "a store each"])
async def test_feedback_works_over_several_workers(tmp_path: Path, shared: bool) -> None:
    """Whichever of them has the entry, and the others know of it when the call returns."""
    async with fleet(tmp_path, semantic_config(), shared=shared) as (cores, client):
        asked, source = await hit_by_meaning(cores[1])
        response = await client.post(f"/entries/{asked}/wrong", content=b"{}")
        assert (response.status_code, response.json()["pair"]) == (200, [asked, source])
        assert cores[1].cache.purges.marks.number == 1
        response = await client.delete(f"/entries/{source}")
        assert (response.status_code, response.json()["ids"]) == (200, [source])
        assert (await client.delete(f"/entries/{source}")).status_code == 404


# Shadow mode.


async def compared(parts: MeaningCore) -> None:
    """One would-be hit that says the same, and one exact pair that does not."""
    await parts.asks(STAR, say=GAS)
    await parts.asks(SAME, say=BALL)
    parts.chance = 0.0
    await parts.asks(STAR, say=ROCK)
    await looked(parts)


CONFIG = shadow_config(baseline_sample=0.5)


async def test_shadow_mode_is_told_by_rule() -> None:
    """Lookups, verdicts, what they say of hits and wrong ones, and by similarity."""
    async with one(CONFIG) as (parts, client):
        empty = (await client.get("/shadow")).json()["rules"]["default"]
        assert (empty["sampled"], empty["would_hit"], empty["wrong"]) == (0, None, None)
        await compared(parts)
        found = (await client.get("/shadow")).json()["rules"]["default"]
        assert (found["lookups"], found["sampled"], found["dropped"]) == ({"empty": 1, "hit": 1}, 2, 0)
        assert found["verdicts"]["semantic"] == {"same": 0, "alike": 1, "different": 0, "unsure": 0}
        assert found["would_hit"] == share(1, 2)
        assert found["wrong"] == share(0, 1)
        assert found["baseline"] == share(1, 1)
        assert [sum(counts.values()) for counts in found["similarities"].values()] == [0, 1, 0, 0]
        assert (await client.get("/shadow?rule=other")).json() == {"rules": {}}


async def test_shadow_pairs_are_lines_for_calibrate() -> None:
    """A JSON object each, without a text."""
    async with one(CONFIG) as (parts, client):
        await compared(parts)
        response = await client.get("/shadow?pairs=true")
        assert response.headers["content-type"] == "application/x-ndjson"
        (line,) = response.text.splitlines()
        assert json.loads(line)["verdict"] in VERDICTS
        assert "star" not in line
        assert (await client.get("/shadow?pairs=true&rule=other")).text == ""


async def test_without_an_embedder_there_is_no_shadow() -> None:
    """And no figures."""
    async with core() as parts:
        transport = httpx2.ASGITransport(pages_of(parts, LOCAL).app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER) as client:
            assert (await client.get("/shadow")).json() == {"rules": {}}
            assert (await client.get("/shadow?pairs=true")).text == ""


async def test_shadow_figures_of_workers_are_added_up(tmp_path: Path) -> None:
    """And what they say is said of the sums."""
    async with fleet(tmp_path, CONFIG, shared=False) as (cores, client):
        for parts in cores:
            await compared(parts)
        found = (await client.get("/shadow")).json()["rules"]["default"]
        assert (found["sampled"], found["would_hit"], found["baseline"]) == (4, share(2, 4), share(2, 2))
        assert sum(found["similarities"]["alike"].values()) == 2
        assert len((await client.get("/shadow?pairs=true")).text.splitlines()) == 2


async def test_without_workers_there_are_no_figures() -> None:
    """Nobody answers, and that is said."""
    pages = FleetPages(
        asking=Asking([], []),
        ledger=Ledger(),
        metrics=FleetMetrics(0),
        config=Config,
        monotonic=lambda: 0.0,
        shared_store=False,
        access=LOCAL,
    )
    transport = httpx2.ASGITransport(pages.app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER) as client:
        assert (await client.get("/shadow")).status_code == 503
        assert (await client.delete(f"/entries/{NOBODY}")).status_code == 503


# The terminal.


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own, with the token in a file."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return terminal(capsys, monkeypatch, tmp_path)


@contextmanager
def sidecar(tmp_path: Path, prepare: Callable[[MeaningCore], object], config: Config) -> Iterator[tuple[str, ...]]:
    """A sidecar that has served a little; the options that lead to it, and what `prepare` gave behind them."""
    said: list[str] = []
    admins: list[Admin] = []
    is_ready = threading.Event()

    async def serve() -> None:
        async with meaning_core(config, about=ANSWERS) as parts:
            given = prepare(parts)
            assert asyncio.iscoroutine(given)
            found = await given
            admin = Admin("127.0.0.1:0", pages_of(parts, LOCAL).app())
            admin.bind()
            admins.append(admin)
            said.extend(("--admin", admin.address, "--token-file", str(tmp_path / "token"), *(found or ())))
            is_ready.set()
            await admin.run()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    # Its log is not the terminal's.
    with capture_logs():
        thread.start()
        assert is_ready.wait(20)
        try:
            yield tuple(said)
        finally:
            admins[0].close()
            thread.join()


def test_a_pair_is_parted_from_the_terminal(run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls it takes; once more there is no such hit, and of what is no id nobody is asked."""
    monkeypatch.setattr("ai_cache_extproc.cache.inventory.STEP_KEYS", 1)
    monkeypatch.setattr("ai_cache_extproc.cache.inventory.WALK_KEYS_MAX", 1)
    with sidecar(tmp_path, hit_by_meaning, semantic_config()) as (*to, asked, source):
        assert run("wrong", asked, *to) == (0, f"{asked} and {source} never match again\n", "")
        code, _, err = run("wrong", asked, *to)
        assert (code, "no entry of this id" in err) == (1, True)
        assert run("wrong", "x", *to)[0] == 2


def test_a_pair_is_parted_for_programs(run: Terminal, tmp_path: Path) -> None:
    """As the sidecar said it."""
    with sidecar(tmp_path, hit_by_meaning, semantic_config()) as (*to, asked, source):
        assert run.json("wrong", asked, *to)["pair"] == [asked, source]


def test_shadow_mode_from_the_terminal(run: Terminal, tmp_path: Path) -> None:
    """A table, a document, and lines for calibrate."""
    with sidecar(tmp_path, compared, CONFIG) as to:
        code, out, _ = run("shadow", *to)
        assert code == 0
        for said in ("50.0% (1 of 2;", "1 alike", "100.0% (1 of 1;", "similarity up to"):
            assert said in out
        rules = run.json("shadow", *to)["rules"]
        assert isinstance(rules, dict)
        assert list(rules) == ["default"]
        code, out, _ = run("shadow", "--pairs", *to)
        assert (code, json.loads(out)["verdict"]) == (0, "alike")
        code, _, err = run("shadow", "--pairs", "--admin", to[1])
        assert (code, "--token-file" in err) == (1, True)


async def nothing(_parts: MeaningCore) -> None:
    """Ask nothing."""


@pytest.mark.parametrize(
    ("config", "said"),
    [(CONFIG, "nothing yet"), (semantic_config(), "no rule is in shadow mode")],
    ids=["nothing was asked", "no rule looks"],
)
def test_shadow_mode_that_saw_nothing(run: Terminal, tmp_path: Path, config: Config, said: str) -> None:
    """It says so."""
    with sidecar(tmp_path, nothing, config) as to:
        assert said in run("shadow", *to)[1]


def test_no_sidecar_has_no_shadow(run: Terminal, tmp_path: Path) -> None:
    """Exit code 1, and the address."""
    code, _, err = run("shadow", "--pairs", "--admin", f"unix:{tmp_path}/none.sock")
    assert (code, "no sidecar answers" in err) == (1, True)


def test_what_is_no_sidecar_has_no_shadow(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else answers there."""
    monkeypatch.setattr("ai_cache_extproc.cli.feedback.fetch", lambda *_arguments, **_options: (404, b"not here"))
    code, _, err = run("shadow", "--pairs")
    assert (code, "is no sidecar's admin address" in err) == (1, True)
