"""Reloads of real files: what is applied, what is refused, what waits for a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ai_cache_extproc.config import reload
from ai_cache_extproc.config.load import load
from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.reload import Reloader, with_pinned
from ai_cache_extproc.config.snapshot import SnapshotSource
from ai_cache_extproc.model import RequestHead

HEAD = RequestHead("POST", "/v1/chat/completions", "api.example.com", {})
WITHIN_S = 10
"""Far beyond what a reload takes; only a broken one waits so long."""


class Outcomes:
    """Counts reloads, and lets a test wait for the next."""

    def __init__(self) -> None:
        self._outcomes: asyncio.Queue[bool] = asyncio.Queue()

    def reload(self, ok: bool) -> None:
        self._outcomes.put_nowait(ok)

    async def next(self) -> bool:
        """Whether the next reload was good."""
        async with asyncio.timeout(WITHIN_S):
            return await self._outcomes.get()


class Watched:
    """A document being watched."""

    def __init__(self, path: Path, source: SnapshotSource, outcomes: Outcomes, reloader: Reloader) -> None:
        self.path = path
        self.source = source
        self.outcomes = outcomes
        self.reloader = reloader

    def write(self, text: str) -> None:
        """Write the document in its place."""
        self.path.write_text(text)

    def remove(self) -> None:
        """Take the document away."""
        self.path.unlink()

    def replace(self, text: str) -> None:
        """Put another file in the place of the document, as editors do."""
        other = self.path.with_name("aicache.yaml.new")
        other.write_text(text)
        other.replace(self.path)

    @property
    def ttl_s(self) -> float:
        """What the rule in force says."""
        rule = self.source.current.rule_for(HEAD)
        assert rule is not None
        assert rule.ttl_s is not None
        return rule.ttl_s


def create(path: Path, text: str) -> None:
    """Make a directory with a file in it, which is whole as soon as it has its name."""
    path.parent.mkdir()
    whole = path.with_name("whole")
    whole.write_text(text)
    whole.replace(path)


@asynccontextmanager
async def watching(path: Path, environ: Mapping[str, str] | None = None) -> AsyncIterator[Watched]:
    """Load a document, and watch it until the block ends."""
    reading = partial(load, path, environ=environ or {})
    loaded = reading()
    source, outcomes, stop = SnapshotSource(loaded.config), Outcomes(), asyncio.Event()
    reloader = Reloader(path, source, load=reading, metrics=outcomes, embedded=loaded.embedded)
    async with asyncio.timeout(4 * WITHIN_S), asyncio.TaskGroup() as group:
        group.create_task(reloader.watch(stop))
        yield Watched(path, source, outcomes, reloader)
        stop.set()


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_MS", 50)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document whose rule has a TTL of one second."""
    path = tmp_path / "aicache.yaml"
    path.write_text("rules: [{ttl_s: 1}]\n")
    return path


async def test_a_changed_document_is_applied(document: Path) -> None:
    """Whether written in place or put in the place of the old one, and a snapshot taken before stays as it was."""
    async with watching(document) as watched:
        before = watched.source.current
        watched.write("rules: [{ttl_s: 22}]\n")
        assert await watched.outcomes.next()
        assert 22 == watched.ttl_s
        watched.replace("rules: [{ttl_s: 333}]\n")
        assert await watched.outcomes.next()
        assert 333 == watched.ttl_s
        assert 1 == before.config.rules[0].ttl_s
        assert (1, 3) == (before.version, watched.source.current.version)


async def test_a_swapped_link_is_applied(tmp_path: Path) -> None:
    """Kubernetes swaps the link `..data` under the file; nothing touches the file's own name."""
    for version in (1, 2):
        folder = tmp_path / f"..2026_{version}"
        folder.mkdir()
        (folder / "aicache.yaml").write_text(f"rules: [{{ttl_s: {version}}}]\n")
    (tmp_path / "..data").symlink_to("..2026_1")
    path = tmp_path / "aicache.yaml"
    path.symlink_to("..data/aicache.yaml")
    async with watching(path) as watched:
        assert 1 == watched.ttl_s
        (tmp_path / "..data_tmp").symlink_to("..2026_2")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        assert await watched.outcomes.next()
        assert 2 == watched.ttl_s


@pytest.mark.parametrize("text", ["rules: [{ttl_s: 0}]\n", "rules: [{ttl", "", "# empty\n", "a: 1\nb: 2\n"])
async def test_a_bad_document_is_counted_and_the_last_good_one_kept(document: Path, text: str) -> None:
    """Faults, half a file and an empty one change nothing; a good one afterwards is applied."""
    async with watching(document) as watched:
        with capture_logs() as logs:
            watched.replace(text)
            assert not await watched.outcomes.next()
        assert (1, 1) == (watched.ttl_s, watched.source.current.version)
        (refused,) = [line for line in logs if line["event"] == "config_refused"]
        assert str(document) in refused["faults"][0]
        watched.replace("rules: [{ttl_s: 22}]\n")
        assert await watched.outcomes.next()
        assert 22 == watched.ttl_s


async def test_a_document_that_vanishes_leaves_everything_as_it_is(document: Path) -> None:
    """Its absence is a bad reload, and its return a good one."""
    async with watching(document) as watched:
        watched.remove()
        assert not await watched.outcomes.next()
        watched.write("rules: [{ttl_s: 22}]\n")
        while not await watched.outcomes.next():
            pass
        assert 22 == watched.ttl_s


async def test_a_poke_reads_the_document_again(document: Path) -> None:
    """SIGHUP reloads without any change of the file."""
    async with watching(document) as watched:
        watched.reloader.poke()
        assert await watched.outcomes.next()
        assert 2 == watched.source.current.version


async def test_an_embedded_start_may_be_reloaded_empty(tmp_path: Path) -> None:
    """Who starts on an empty document shares already; from the first word on, an empty one is refused."""
    path = tmp_path / "aicache.yaml"
    path.write_text("")
    async with watching(path) as watched:
        with capture_logs() as logs:
            watched.reloader.poke()
            assert await watched.outcomes.next()
        assert ["config_reloaded", "config_shares"] == [line["event"] for line in logs]
        watched.replace("rules: [{ttl_s: 22}]\n")
        assert await watched.outcomes.next()
        watched.replace("")
        assert not await watched.outcomes.next()
        assert 22 == watched.ttl_s


async def test_the_environment_still_wins_after_a_reload(document: Path) -> None:
    """Overrides of the start hold over every later document."""
    async with watching(document, {"AICACHE__LOOKUP__DEADLINE_MS": "7"}) as watched:
        watched.replace("lookup: {deadline_ms: 9, flight_wait_ms: 3}\n")
        assert await watched.outcomes.next()
        lookup = watched.source.current.config.lookup
        assert (7, 3) == (lookup.deadline_ms, lookup.flight_wait_ms)


async def test_what_needs_a_restart_is_named_and_kept(document: Path) -> None:
    """The rest of the same document is applied."""
    async with watching(document) as watched:
        with capture_logs() as logs:
            watched.replace("rules: [{ttl_s: 22}]\nadmin: null\nstore: {type: memory}\nlog: {level: debug}\n")
            assert await watched.outcomes.next()
        (named,) = [line for line in logs if line["event"] == "config_needs_restart"]
        assert ["admin", "store", "log.level"] == named["settings"]
        assert Config.model_validate({"rules": [{"ttl_s": 22}]}) == watched.source.current.config


def test_every_setting_is_live_or_pinned() -> None:
    """What is pinned keeps its old value to the letter, limits one by one; nothing is lost between the two."""
    current = Config()
    fresh = Config.model_validate(
        {
            "listen": ["unix:/run/other.sock"],
            "insecure_listen": True,
            "workers": 2,
            "admin": None,
            "admin_access": {"token": "t" * 16},
            "ready_needs_store": True,
            "envoy": {"message_timeout_ms": 300},
            "store": {"path": "/other.db"},
            "near": {"bytes_max": 1, "ttl_s_max": 2},
            "embedder": {"type": "embedded"},
            "index": {"rows_max": 5},
            "verifier": {"type": "rerank", "url": "http://127.0.0.1:1"},
            "lookup": {"deadline_ms": 60},
            "limits": {"sse_line_bytes_max": 9, "answer_bytes_max": 9},
            "write_queue": {"entries_max": 1},
            "identity": {"key": "k" * 32},
            "encryption": {"keys": [{"id": "a", "key": "0" * 64}]},
            "key_prefix": "other:",
            "drain": {"streams_s": 1},
            "log": {"format": "console"},
            "tracing": {"ratio": 0.5},
            "prices": [{"model": "gpt-*"}],
            "labels": {"layer_words": True},
            "rules": [{"name": "other"}],
        }
    )
    assert set(Config.model_fields) == fresh.model_fields_set
    applied, pinned = with_pinned(current, fresh)
    expected = "listen workers insecure_listen admin admin_access.token ready_needs_store store.path near.bytes_max near.ttl_s_max embedder index.rows_max verifier write_queue.entries_max "
    expected += "identity.key encryption.keys key_prefix log.format tracing.ratio limits.sse_line_bytes_max"
    assert expected.split() == list(pinned)
    live = {
        "envoy": fresh.envoy,
        "lookup": fresh.lookup,
        "drain": fresh.drain,
        "rules": fresh.rules,
        "prices": fresh.prices,
        "labels": fresh.labels,
    }
    limits = fresh.limits.model_copy(update={"sse_line_bytes_max": current.limits.sse_line_bytes_max})
    assert current.model_copy(update={**live, "limits": limits}) == applied
    assert (fresh, ()) == with_pinned(fresh, fresh)


async def test_readers_see_whole_configurations_while_the_document_changes(document: Path) -> None:
    """Every snapshot that is taken during many reloads holds values of one document only."""
    seen: set[int] = set()

    def read(source: SnapshotSource) -> None:
        snapshot = source.current
        rule = snapshot.rule_for(HEAD)
        assert rule is not None
        assert snapshot.config.lookup.flight_wait_ms + 1 == rule.ttl_s == snapshot.config.rules[0].ttl_s
        seen.add(snapshot.version)

    async def keep_reading(source: SnapshotSource, more: Callable[[], bool]) -> None:
        while more():
            for _ in range(100):
                read(source)
            await asyncio.sleep(0.001)

    async with watching(document) as watched, asyncio.TaskGroup() as group:
        going = True
        group.create_task(keep_reading(watched.source, lambda: going))
        for number in range(2, 22):
            watched.replace(f"lookup: {{flight_wait_ms: {number - 1}}}\nrules: [{{ttl_s: {number}}}]\n")
            assert await watched.outcomes.next()
            assert number == watched.ttl_s
        going = False
    assert len(seen) > 10


async def test_without_notifications_the_file_is_looked_at(tmp_path: Path) -> None:
    """Where the directory cannot be watched, the document is found changed all the same."""
    path = tmp_path / "later" / "aicache.yaml"
    source, outcomes, stop = SnapshotSource(Config()), Outcomes(), asyncio.Event()
    reloader = Reloader(path, source, load=partial(load, path, environ={}), metrics=outcomes)
    with capture_logs() as logs:
        async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
            group.create_task(reloader.watch(stop))
            # The directory is asked for before the task waits for the first time.
            await asyncio.sleep(0)
            create(path, "rules: [{ttl_s: 22}]\n")
            assert await outcomes.next()
            stop.set()
    assert "config_watch_polls" == logs[0]["event"]
    assert 22 == source.current.config.rules[0].ttl_s


async def test_a_watch_that_is_cancelled_ends(document: Path) -> None:
    """Cancelling leaves no thread waiting for the directory."""
    reloader = Reloader(document, SnapshotSource(Config()), load=partial(load, document), metrics=Outcomes())
    task = asyncio.ensure_future(reloader.watch(asyncio.Event()))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
