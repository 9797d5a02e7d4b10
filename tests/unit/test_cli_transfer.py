"""`aicache export` and `import`: a sidecar's entries in a file of their own, and back."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.admin.access import Access
from ai_cache_extproc.admin.http import Admin
from ai_cache_extproc.cache import inventory
from ai_cache_extproc.cli import transfer, transfer_file
from ai_cache_extproc.cli.transfer_file import BadFile, Writer, check_whole, entries_of
from tests.exchange.conversation import Core, core, miss_then_store
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
def sidecar(*models: str, address: str = "127.0.0.1:0") -> Iterator[tuple[str, Core]]:
    """A sidecar that keeps an answer of each model; its admin address, and its parts."""
    started: list[tuple[Admin, Core]] = []
    is_ready = threading.Event()

    async def serve() -> None:
        async with core() as parts:
            for model in models:
                await miss_then_store(parts, model=model)
            admin = Admin(address, pages_of(parts, Access(TOKEN)).app())
            admin.bind()
            started.append((admin, parts))
            is_ready.set()
            await admin.run()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    # Its log is not the terminal's.
    with capture_logs():
        thread.start()
        assert is_ready.wait(20)
        admin, parts = started[0]
        try:
            yield admin.address, parts
        finally:
            admin.close()
            thread.join()


def test_entries_go_into_a_file_and_into_another_sidecar(run: Terminal, token: str, tmp_path: Path) -> None:
    """The file is its owner's alone, and says whose names it holds; a second import finds everything there."""
    file = tmp_path / "answers.jsonl"
    with sidecar("m", "n", "o") as (address, _):
        code, out, _ = run("export", str(file), "--admin", address, "--token-file", token, "--younger-than", "60")
        assert 0 == code
        assert f"3 entries in {file}" in out
        assert "stand there in clear" in out
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    head, *entries, end = (json.loads(line) for line in file.read_text().splitlines())
    assert ("aicache export", 1, "aicache:", False, {"younger_than_s": 60.0}) == (
        head["kind"],
        head["format"],
        head["prefix"],
        head["sealed"],
        head["filter"],
    )
    assert ({"key", "value"}, 3) == ({name for entry in entries for name in entry}, end["entries"])
    with sidecar("o") as (address, _):
        to = ("--admin", address, "--token-file", token)
        code, out, _ = run("import", str(file), *to)
        assert (0, True) == (code, "2 of 3 entries" in out)
        assert "1  there already, as new or newer" in out
        document = run.json("import", str(file), *to)
        assert (3, {"known": 3}) == (document["entries"], document["counts"])
        assert 3 == run.json("export", str(tmp_path / "again"), *to)["entries"]


def test_an_export_takes_filters_and_leaves_out_what_is_gone(
    run: Terminal, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many calls as it takes."""
    monkeypatch.setattr(transfer, "BATCH_ENTRIES", 1)
    monkeypatch.setattr(transfer, "_PAGE", 1)
    monkeypatch.setattr(inventory, "STEP_KEYS", 1)
    file = tmp_path / "answers"
    with sidecar("m", "n", "n2") as (address, parts):
        to = ("--admin", address, "--token-file", token, "--output", "json")
        code, out, _ = run("export", str(file), "--model", "n", *to)
        assert (0, 1) == (code, json.loads(out)["entries"])
        code, out, _ = run("export", str(tmp_path / "whole"), *to)
        assert (0, 3) == (code, json.loads(out)["entries"])
        code, _, err = run("export", str(file), *to)
        assert (1, True) == (code, "is there already" in err)
        parts.clock.now_s += 10**6
        code, out, _ = run("export", str(file), "--force", *to)
        assert (0, 0) == (code, json.loads(out)["entries"])
    assert [file.name] == [each.name for each in tmp_path.iterdir() if each.name.startswith("answers")]


def test_what_a_page_cannot_hold_is_asked_for_again(
    run: Terminal, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a page is never too large, and nothing is lost."""
    monkeypatch.setattr("ai_cache_extproc.cache.transfer.PAGE_BYTES_MAX", 1)
    with sidecar("m", "n") as (address, _):
        to = ("--admin", address, "--token-file", token)
        assert 2 == run.json("export", str(tmp_path / "file"), *to)["entries"]


def test_a_purge_is_not_undone_by_an_import(run: Terminal, token: str, tmp_path: Path) -> None:
    """What was purged stays away, and the command says so; everything else comes back."""
    file = str(tmp_path / "answers")
    with sidecar("m", "n") as (address, _):
        to = ("--admin", address, "--token-file", token)
        assert 0 == run("export", file, *to)[0]
        assert 0 == run("purge", "--model", "m", "--yes", *to)[0]
        assert {"purged": 1, "known": 1} == run.json("import", file, *to)["counts"]
        assert 0 == run("purge", "--flush", "--yes", *to)[0]
        code, out, _ = run("import", file, *to)
        assert (0, True) == (code, "2  purged" in out)


def test_another_identity_key_is_refused(run: Terminal, token: str, tmp_path: Path) -> None:
    """Before anything is written, with the way out."""
    file = tmp_path / "answers"
    with sidecar("m") as (address, _):
        to = ("--admin", address, "--token-file", token)
        assert 0 == run("export", str(file), *to)[0]
        head, rest = file.read_text().split("\n", 1)
        mark = json.loads(head)["mark"]
        sink = io.BytesIO()
        writer = Writer(sink, {**json.loads(head), "mark": "0" * 32})
        writer.add({"key": "k", "value": "!"})
        writer.end()
        file.write_bytes(sink.getvalue())
        code, _, err = run("import", str(file), *to)
        assert (1, True) == (code, "identity.key_file" in err)
        assert mark not in err
        assert rest


def test_a_value_that_does_not_check_is_told(run: Terminal, token: str, tmp_path: Path) -> None:
    """Exit code 1: the file holds something that is no entry."""
    file = tmp_path / "answers"
    with sidecar() as (address, _):
        to = ("--admin", address, "--token-file", token)
        assert 0 == run("export", str(file), *to)[0]
        sink = io.BytesIO()
        writer = Writer(sink, json.loads(file.read_text().splitlines()[0]))
        writer.add({"key": "k", "value": ""})
        writer.end()
        file.write_bytes(sink.getvalue())
        code, out, _ = run("import", str(file), *to)
        assert (1, True) == (code, "1  not readable" in out)


def written(entries: int = 2) -> bytes:
    """A whole file."""
    sink = io.BytesIO()
    writer = Writer(sink, {"mark": "m"})
    for number in range(entries):
        writer.add({"key": str(number), "value": ""})
    writer.end()
    return sink.getvalue()


def test_a_whole_file_is_read_in_its_order() -> None:
    """Once to check it, and once to use it."""
    source = io.BytesIO(written())
    head, entries = check_whole(source, Path("f"))
    assert ("m", 2) == (head["mark"], entries)
    assert ["0", "1"] == [entry["key"] for entry, _ in entries_of(source, Path("f"))]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "is no file of", id="empty"),
        pytest.param(b'{"kind": "else"}\n', "is no file of", id="something else"),
        pytest.param(b'{"kind": "aicache export", "format": 9}\n', "format 9; this version knows 1", id="later"),
        pytest.param(written()[:-1], "its last line has no end", id="cut in the last line"),
        pytest.param(b"\n".join(written().split(b"\n")[:-2]) + b"\n", "it has no last line", id="cut before it"),
        pytest.param(written().replace(b'"key":"1"', b'"key":"2"'), "its sum does not agree", id="changed"),
        pytest.param(
            written().replace(b'{"key":"0","value":""}\n', b""), "its sum does not agree", id="one is lacking"
        ),
        pytest.param(written().replace(b'{"key":"0"', b'"key":"0"'), "line 2: is no JSON object", id="no JSON"),
        pytest.param(written() + b"\n", "goes on behind its last line", id="longer"),
    ],
)
def test_a_file_that_was_cut_or_changed_is_refused(
    content: bytes, said: str, run: Terminal, token: str, tmp_path: Path
) -> None:
    """Before the sidecar is asked for anything."""
    file = tmp_path / "answers"
    file.write_bytes(content)
    code, out, err = run("import", str(file), "--admin", "127.0.0.1:1", "--token-file", token)
    assert (1, "") == (code, out)
    assert said in err


def test_files_that_cannot_be_had_are_named(run: Terminal, tmp_path: Path) -> None:
    """Read or written; nothing is left behind."""
    code, _, err = run("import", str(tmp_path / "none"))
    assert (1, True) == (code, "cannot be read: No such file" in err)
    with (
        pytest.raises(BadFile, match="cannot be written"),
        transfer_file.writing(tmp_path / "no folder" / "f", replace=False),
    ):
        raise AssertionError("never reached")
    with pytest.raises(KeyboardInterrupt), transfer_file.writing(tmp_path / "f", replace=False) as sink:
        sink.write(b"half")
        raise KeyboardInterrupt
    assert [] == list(tmp_path.glob("f*"))
