"""`aicache inspect` and `purge`: a sidecar's entries from the terminal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.http import Admin
from tests.exchange.conversation import ask, core, header, miss_then_store
from tests.support.admin_client import pages_of
from tests.support.entries import TOKEN
from tests.support.terminal import Terminal, terminal


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


@pytest.fixture
def token(tmp_path: Path) -> str:
    """The token in a file, as an operator has it."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return str(path)


@contextmanager
def sidecar(address: str = "127.0.0.1:0", access: Access = Access(TOKEN)) -> Iterator[tuple[str, str]]:  # noqa: B008  # frozen
    """A sidecar that keeps an answer of two models; its admin address, and the id of the first."""
    bound: list[str] = []
    is_ready = threading.Event()
    admins: list[Admin] = []

    async def serve() -> None:
        async with core() as parts:
            for model in ("m", "other"):
                await miss_then_store(parts, model=model)
            exchange = parts.exchange()
            id_ = header(await ask(exchange, model="m"), "x-ai-cache-key") or ""
            exchange.close()
            admin = Admin(address, pages_of(parts, access).app())
            admin.bind()
            admins.append(admin)
            bound.extend((admin.address, id_))
            is_ready.set()
            await admin.run()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    # Its log is not the terminal's.
    with capture_logs():
        thread.start()
        assert is_ready.wait(20)
        try:
            yield bound[0], bound[1]
        finally:
            admins[0].close()
            thread.join()


def test_a_purge_says_first_what_would_go(run: Terminal, token: str) -> None:
    """Without --yes nothing is removed; with it the entry is gone."""
    with sidecar() as (address, id_):
        to = ("--admin", address, "--token-file", token)
        code, out, _ = run("purge", "--model", "m", *to)
        assert 0 == code
        assert id_ in out
        assert "1 of 2 keys would go; nothing is done without --yes" in out
        assert 0 == run("inspect", id_, *to)[0]
        code, out, _ = run("purge", "--model", "m", "--yes", *to)
        assert 0 == code
        assert "1 of 2 keys are gone" in out
        code, _, err = run("inspect", id_, *to)
        assert 1 == code
        assert "no entry of this id" in err


@pytest.mark.parametrize(
    "filters",
    [("--rule", "default"), ("--younger-than", "60"), ("--all",)],
    ids=["rule", "age", "all"],
)
def test_filters_are_handed_on(run: Terminal, token: str, filters: tuple[str, ...]) -> None:
    """For programs the document says what all calls said together."""
    with sidecar() as (address, id_):
        document = run.json("purge", *filters, "--yes", "--admin", address, "--token-file", token)
        assert (False, 2, 2, 2) == tuple(document[name] for name in ("dry_run", "matched", "removed", "scanned"))
        assert id_ in str(document["entries"])


def test_no_entry_of_these_filters_is_no_fault(run: Terminal, token: str) -> None:
    """There was nothing to be rid of."""
    with sidecar() as (address, _):
        code, out, _ = run("purge", "--tag", "x", "--older-than", "60", "--admin", address, "--token-file", token)
    assert (0, "0 of 2 keys would go; nothing is done without --yes\n") == (code, out)


def test_a_flush_takes_a_yes(run: Terminal, token: str) -> None:
    """A new epoch begins."""
    with sidecar() as (address, _):
        to = ("--admin", address, "--token-file", token)
        code, out, _ = run("purge", "--flush", *to)
        assert (0, "would put every entry out of reach; nothing is done without --yes\n") == (code, out)
        assert (0, "epoch 1 begins\n") == run("purge", "--flush", "--yes", *to)[:2]
        assert 2 == run.json("purge", "--flush", "--yes", *to)["epoch"]


def test_inspect_shows_answers_only_when_asked(run: Terminal, token: str, tmp_path: Path) -> None:
    """Through a Unix socket no token is needed but for those."""
    with sidecar() as (address, id_):
        to = ("--admin", address, "--token-file", token)
        _, out, _ = run("inspect", id_, *to)
        assert "sha256" in out
        assert "ball of gas" not in out
        assert "A ball of gas." in run("inspect", id_, "--content", *to)[1]
        assert "m" == run.json("inspect", id_, *to)["model"]
    with sidecar(f"unix:{tmp_path}/admin.sock", Access(is_private=True)) as (address, id_):
        assert 0 == run("inspect", id_, "--admin", address)[0]
        code, _, err = run("inspect", id_, "--content", "--admin", address)
        assert 1 == code
        assert "admin_access.token_file" in err


def test_large_stores_are_walked_to_the_end(run: Terminal, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call by call."""
    monkeypatch.setattr("ai_cache_extproc.cache.inventory.STEP_KEYS", 1)
    monkeypatch.setattr("ai_cache_extproc.cache.inventory.WALK_KEYS_MAX", 1)
    monkeypatch.setattr("ai_cache_extproc.admin.entries.SHOWN", 1)
    with sidecar() as (address, id_):
        to = ("--admin", address, "--token-file", token)
        assert id_ == run.json("inspect", id_, *to)["id"]
        assert 1 == run("inspect", "0" * 32, *to)[0]
        assert "and 1 more" in run("purge", "--all", *to)[1]
        assert 2 == run.json("purge", "--all", "--yes", *to)["removed"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("purge",),
        ("purge", "--foreign", "--yes"),
        ("purge", "--flush", "--all"),
        ("purge", "--id", "short"),
        ("inspect", "short"),
        ("inspect",),
    ],
    ids=["no filter", "foreign alone", "flush and all", "short id", "inspect short", "inspect nothing"],
)
def test_wrong_usage_is_told_before_anyone_is_asked(run: Terminal, arguments: tuple[str, ...]) -> None:
    """Exit code 2."""
    assert 2 == run(*arguments, "--admin", "127.0.0.1:1")[0]


def test_without_the_token_it_says_what_is_needed(run: Terminal, tmp_path: Path, token: str) -> None:
    """Exit code 1: no token, another one, a file that is not there, a filter that the sidecar refuses."""
    other = tmp_path / "other"
    other.write_text("x" * 20)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff")
    with sidecar() as (address, _):
        for given, word in (
            ((), "needs the token of admin_access"),
            (("--token-file", str(other)), "needs the token of admin_access"),
            (("--token-file", str(tmp_path / "nobody")), "No such file"),
            (("--token-file", str(binary)), "is not text"),
        ):
            code, _, err = run("purge", "--all", "--admin", address, *given)
            assert 1 == code
            assert word in err
        code, _, err = run("purge", "--scope", "nonsense", "--admin", address, "--token-file", token)
        assert (1, True) == (code, "16 hex digits" in err)
