"""Entries and purges at the admin address: who may, what is said, and what is not."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.errors import BackendUnavailable
from tests.exchange.faulty_store import FaultyStore
from tests.support.admin_client import LOCAL, PRIVATE, WIDE, admin
from tests.support.entries import BEARER, TOKEN

OPEN = ("/livez", "/readyz", "/metrics")
FIGURES = ("/stats", "/version")
GUARDED = ("/config", "/entries", f"/entries/{'0' * 32}", "/purges")
ACTING = ("/purge", "/flush")


async def test_without_a_token_nothing_beyond_health_and_metrics_answers() -> None:
    """Whether none is shown or another; whether one is configured or not."""
    for access, headers, refused in (
        (LOCAL, {}, 401),
        (LOCAL, {"authorization": f"Bearer {TOKEN}x"}, 401),
        (LOCAL, {"authorization": f"Basic {TOKEN}"}, 401),
        (LOCAL, {"authorization": "Bearer"}, 401),
        (WIDE, {"authorization": "Bearer "}, 401),
        (Access(), BEARER, 403),
    ):
        async with admin(access, headers=headers) as asked:
            assert {200} == {(await asked.client.get(path)).status_code for path in OPEN}
            for path in GUARDED:
                status, document = await asked.get(path)
                assert (refused, ["error"]) == (status, list(document)), path
            # In another form they say what the metrics say.
            assert {401 if access.token else 200} == {(await asked.client.get(path)).status_code for path in FIGURES}
            for path in ACTING:
                assert refused == (await asked.post(path))[0]


async def test_with_the_token_all_of_it_answers() -> None:
    """Its scheme is written as one likes (RFC 9110, 11.1)."""
    async with admin(headers={"authorization": f"bearer  {TOKEN}"}) as asked:
        assert [200, 200, 200, 200, 404, 200] == [(await asked.get(path))[0] for path in (*FIGURES, *GUARDED)]
        response = await asked.client.get("/entries", headers={"authorization": "Bearer no"})
        assert "Bearer" == response.headers["www-authenticate"]


async def test_nothing_acts_on_a_get() -> None:
    """A link or an image in a page that is looked at here does nothing."""
    async with admin() as asked:
        for path in ACTING:
            assert 405 == (await asked.client.get(path)).status_code


async def test_a_unix_socket_needs_no_token_but_for_content() -> None:
    """Its permissions keep others away; what callers were told is for the token's holder all the same."""
    async with admin(PRIVATE, headers={"host": "anything"}) as asked:
        (id_,) = await asked.ids("m")
        assert 200 == (await asked.get(f"/entries/{id_}"))[0]
        assert 403 == (await asked.get(f"/entries/{id_}?content=true"))[0]
        assert 200 == (await asked.post("/flush"))[0]
    async with admin(Access(TOKEN, is_private=True), headers={}) as asked:
        assert 401 == (await asked.get("/entries"))[0]


@pytest.mark.parametrize("path", [*OPEN, *FIGURES, *GUARDED])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9901", "localhost.evil.example", "192.0.2.1:9901", "", "127.0.0.1.evil"]
)
async def test_a_hostile_host_is_refused(path: str, host: str) -> None:
    """A name that somebody made to lead to loopback is not answered to, token or not (DNS rebinding)."""
    async with admin() as asked:
        status, document = await asked.get(path, headers={"host": host})
        assert 421 == status
        assert "localhost" in document["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9901", "127.0.0.1:9901", "127.8.8.8", "[::1]:9901", "[::1]"])
async def test_the_machine_s_own_names_are_answered_to(host: str) -> None:
    """With a port or without."""
    async with admin() as asked:
        assert 200 == (await asked.get("/entries", headers={"host": host}))[0]


async def test_beyond_loopback_any_name_is_answered_to() -> None:
    """The token is what protects there."""
    async with admin(WIDE) as asked:
        assert 200 == (await asked.get("/entries", headers={"host": "sidecar.example:9901"}))[0]


async def test_entries_are_listed_by_filters_and_pages() -> None:
    """With all that is known of them but what was said."""
    async with admin() as asked:
        one, other = await asked.ids("m", "other")
        status, page = await asked.get("/entries?model=m&younger_than_s=5")
        assert (200, 1, None) == (status, page["matched"], page["cursor"])
        (entry,) = page["entries"]
        assert {
            "id",
            "key",
            "scope",
            "epoch",
            "dialect",
            "model",
            "rule",
            "tags",
            "created_s",
            "expires_s",
            "bytes",
        } == (entry.keys())
        assert (one, "m", "openai_chat") == (entry["id"], entry["model"], entry["dialect"])
        assert [one] == [
            found["id"] for found in (await asked.get(f"/entries?scope={entry['scope']}&model=m"))[1]["entries"]
        ]
        assert {one, other} == {found["id"] for found in (await asked.get("/entries"))[1]["entries"]}
        assert [] == (await asked.get("/entries?older_than_s=5"))[1]["entries"]


async def test_an_entry_shows_hashes_unless_content_is_asked_for() -> None:
    """Looking at content leaves a line in the log, without the content."""
    async with admin() as asked:
        (id_,) = await asked.ids("m")
        status, entry = await asked.get(f"/entries/{id_}")
        (capture,) = entry["captures"]
        assert (200, "json", 64) == (status, capture["mode"], len(capture["sha256"]))
        assert "ball of gas" not in json.dumps(entry)
        with capture_logs() as lines:
            _, entry = await asked.get(f"/entries/{id_}?content=true")
        assert "A ball of gas." in entry["captures"][0]["content"]
        (line,) = [line for line in lines if line["event"] == "admin_content"]
        assert (id_, "token") == (line["key"], line["caller"])
        assert "ball" not in json.dumps(lines)
        status, document = await asked.get(f"/entries/{'0' * 32}")
        assert (404, "no entry of this id", None) == (status, document["error"], document["cursor"])


async def test_a_purge_rehearses_unless_told_otherwise() -> None:
    """What it would remove is the same as what it removes."""
    async with admin() as asked:
        await asked.ids("m", "other")
        call = {"filter": {"model": "m"}}
        status, rehearsed = await asked.post("/purge", call)
        assert (200, True, 1, 0, None) == (
            status,
            rehearsed["dry_run"],
            rehearsed["matched"],
            rehearsed["removed"],
            rehearsed["purge"],
        )
        status, purged = await asked.post("/purge", call | {"dry_run": False})
        assert (200, False, 1, 1, 1) == (
            status,
            purged["dry_run"],
            purged["matched"],
            purged["removed"],
            purged["purge"],
        )
        assert rehearsed["entries"] == purged["entries"]
        assert ["other"] == [entry["model"] for entry in (await asked.get("/entries"))[1]["entries"]]
        assert {"epoch": 0, "purge": 1, "known": True} == (await asked.get("/purges"))[1]


async def test_a_flush_begins_an_epoch() -> None:
    """Nothing is found any more, although it is there."""
    async with admin() as asked:
        await asked.ids("m")
        assert (200, {"epoch": 1, "purge": 1}) == await asked.post("/flush")
        assert (200, {"epoch": 2, "purge": 2}) == await asked.post("/flush")
        assert 1 == len((await asked.get("/entries"))[1]["entries"])
        status, purged = await asked.post("/purge", {"filter": {"all": True}, "dry_run": False})
        assert (200, 1) == (status, purged["removed"])


async def test_what_is_done_is_in_the_log() -> None:
    """Who, what, how many."""
    async with admin() as asked:
        await asked.ids("m")
        with capture_logs() as lines:
            await asked.post("/purge", {"filter": {"all": True}})
            await asked.post("/purge", {"filter": {"all": True}, "dry_run": False})
            await asked.post("/flush")
    told = [line for line in lines if line["event"].startswith("admin_")]
    assert [("admin_purge", True, 0), ("admin_purge", False, 1)] == [
        (line["event"], line["dry_run"], line["removed"]) for line in told[:2]
    ]
    assert ("admin_flush", 2, "token") == (told[2]["event"], told[2]["epoch"], told[2]["caller"])
    assert {"all": True} == told[0]["filter"]


@pytest.mark.parametrize(
    ("filters", "word"),
    [
        pytest.param({}, "name a filter", id="none"),
        pytest.param({"foreign": True}, "name a filter", id="no filter of foreign"),
        pytest.param({"colour": "red"}, "'colour' is no filter", id="unknown"),
        pytest.param({"id": "0" * 31}, "32 hex digits", id="short id"),
        pytest.param({"scope": "X" * 16}, "16 hex digits", id="scope"),
        pytest.param({"model": ""}, "'model' must be a text", id="empty"),
        pytest.param({"tag": 7}, "'tag' must be a text", id="number"),
        pytest.param({"older_than_s": -1}, "number of seconds", id="negative"),
        pytest.param({"older_than_s": True}, "number of seconds", id="truth"),
        pytest.param({"all": "yes"}, "true or false", id="text"),
        pytest.param({"all": True, "model": "m"}, "'all' stands alone", id="all and more"),
        pytest.param({"foreign": True, "model": "m"}, "say nothing of themselves", id="foreign model"),
        pytest.param({"foreign": True, "all": True}, "no rule keeps entries", id="no foreign"),
    ],
)
async def test_a_filter_that_is_none_is_refused(filters: dict[str, object], word: str) -> None:
    """By its name, and nothing is purged."""
    async with admin() as asked:
        status, document = await asked.post("/purge", {"filter": filters, "dry_run": False})
        assert (400, 0) == (status, asked.parts.cache.purges.marks.number)
        assert word in document["error"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"[]", 400),
        (b"{", 400),
        (b'{"force":true}', 400),
        (b'{"filter":[]}', 400),
        (b'{"dry_run":"no"}', 400),
        (b"x" * 70_000, 413),
    ],
    ids=["list", "cut", "unknown", "filter", "dry_run", "long"],
)
async def test_a_body_that_is_none_is_refused(content: bytes, status: int) -> None:
    """Whatever it is."""
    async with admin() as asked:
        assert status == (await asked.client.post("/purge", content=content)).status_code


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "model=a&model=b", "older_than_s=x", "cursor=7:", "colour=red", "foreign=x"],
)
async def test_a_query_that_is_none_is_refused(query: str) -> None:
    """With the reason."""
    async with admin() as asked:
        assert 400 == (await asked.get(f"/entries?{query}"))[0]


async def test_a_store_that_fails_is_named() -> None:
    """What cannot be walked, and what does not answer."""
    async with admin(store=FaultyStore()) as asked:
        assert 400 == (await asked.get("/entries"))[0]
    async with admin() as asked:
        fault = BackendUnavailable("redis", "scan", "gone")

        async def fails(*_: object, **__: object) -> None:
            raise fault

        asked.parts.store.scan = fails  # type: ignore[attr-defined]  # in the place of what the store has
        assert (503, {"error": "redis scan: gone"}) == await asked.get("/entries")
