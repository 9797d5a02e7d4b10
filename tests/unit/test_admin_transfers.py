"""Export and import at the admin address: who may, what is said, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.admin import transfers
from ai_cache_extproc.admin.access import Access
from tests.support.admin_client import LOCAL, PRIVATE, Asked, admin
from tests.support.entries import BEARER, TOKEN

ORIGIN = ("format", "mark", "prefix", "sealed")


async def exported(asked: Asked, *models: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Keep an answer of each model; whose they are, and the entries as they are given."""
    await asked.ids(*models)
    _, page = await asked.get("/entries")
    status, given = await asked.post("/export", {"keys": [entry["key"] for entry in page["entries"]]})
    assert (200, {}) == (status, given["left_out"])
    _, about = await asked.get("/export")
    return about, given["entries"]


async def test_content_goes_out_and_in_for_the_token_s_holder_alone() -> None:
    """Also on a Unix socket, where everything else is answered without one."""
    for access, headers, looked, acted in (
        (LOCAL, {}, 401, 401),
        (LOCAL, BEARER, 200, 200),
        (PRIVATE, {}, 200, 403),
        (Access(TOKEN, is_private=True), BEARER, 200, 200),
    ):
        async with admin(access, headers=headers) as asked:
            status, about = await asked.get("/export")
            assert looked == status
            assert acted == (await asked.post("/export", {"keys": []}))[0]
            body = {name: about.get(name) for name in ORIGIN} | {"entries": []}
            assert acted == (await asked.post("/import", body))[0]
            if acted == 200:
                assert 405 == (await asked.client.get("/import")).status_code


async def test_entries_of_one_sidecar_are_hits_of_another() -> None:
    """That names them with the same key; each call leaves a line in the log, without content."""
    async with admin() as one, admin() as other:
        about, entries = await exported(one, "m", "n")
        assert {*ORIGIN} == about.keys()
        assert b"A ball of gas." in base64.b64decode(entries[0]["value"])
        with capture_logs() as lines:
            status, taken = await other.post("/import", about | {"entries": entries})
            assert (200, {"entries": 2, "counts": {"done": 2}}) == (status, taken)
            assert {"known": 2} == (await other.post("/import", about | {"entries": entries}))[1]["counts"]
            await other.post("/export", {"keys": [entries[0]["key"], "no"]})
        assert [("admin_import", {"done": 2}), ("admin_import", {"known": 2})] == [
            (line["event"], {name: line[name] for name in ("done", "known") if name in line})
            for line in lines
            if line["event"] == "admin_import"
        ]
        (line,) = [line for line in lines if line["event"] == "admin_export"]
        assert ("token", 1, 1) == (line["caller"], line["given"], line["left_out"])
        assert "ball" not in json.dumps(lines)
        assert await other.hit("m")
        assert 1 == other.parts.metrics.requests["hit"]


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        pytest.param("mark", "0" * 32, "another identity key", id="another key"),
        pytest.param("prefix", "other:", "key_prefix 'other:', and here it is 'aicache:'", id="another prefix"),
        pytest.param("format", 2, "format 2 is not known", id="another format"),
        pytest.param("sealed", True, "these entries are encrypted, and here not", id="encrypted"),
        pytest.param("sealed", None, "these entries are not encrypted, and here they are", id="nothing said"),
    ],
)
async def test_entries_that_nobody_would_find_are_refused(member: str, value: object, said: str) -> None:
    """Whole, with the reason."""
    async with admin() as asked:
        about, entries = await exported(asked, "m")
        status, document = await asked.post("/import", about | {member: value, "entries": entries})
        assert 409 == status
        assert said in document["error"]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        pytest.param("/export", {}, id="no keys"),
        pytest.param("/export", {"keys": "k"}, id="keys are no list"),
        pytest.param("/export", {"keys": [1]}, id="a key is no text"),
        pytest.param("/export", {"keys": ["k"] * 501}, id="too many keys"),
        pytest.param("/export", {"keys": [], "more": 1}, id="an unknown member"),
        pytest.param("/import", {}, id="no entries"),
        pytest.param("/import", {"entries": [1]}, id="an entry is no object"),
        pytest.param("/import", {"entries": [{"key": "k"}]}, id="no value"),
        pytest.param("/import", {"entries": [{"key": 1, "value": ""}]}, id="an entry's key is no text"),
        pytest.param("/import", {"entries": [{"key": "k", "value": "*"}]}, id="not Base64"),
        pytest.param("/import", {"entries": [{"key": "k", "value": ""}] * 501}, id="too many entries"),
    ],
)
async def test_what_is_not_understood_is_refused(path: str, document: object) -> None:
    """By name, before anything is done."""
    async with admin() as asked:
        status, said = await asked.post(path, document)
        assert (400, ["error"]) == (status, list(said))


async def test_a_call_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than that is not read."""
    monkeypatch.setattr(transfers, "IMPORT_BYTES_MAX", 1000)
    async with admin() as asked:
        assert 413 == (await asked.post("/import", {"entries": ["x" * 1000]}))[0]


async def test_without_an_identity_key_nothing_goes_in_or_out() -> None:
    """As long as the shared store has not given it."""
    async with admin() as asked:
        asked.parts.keys.current = None  # type: ignore[misc]  # as before the first read
        assert 503 == (await asked.get("/export"))[0]
