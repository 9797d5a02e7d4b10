"""Every embedder keeps one contract. Vendors are stand-ins that check what they are asked; local models are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_cache_extproc.embedders import open_embedder
from ai_cache_extproc.embedders.base import Vectors
from ai_cache_extproc.embedders.cached import CachedEmbedder
from ai_cache_extproc.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable
from ai_cache_extproc.model import BreakerState
from tests.support.embedders import embedder_settings, write_onnx_model
from tests.support.embedding_servers import KEY, SECRET, VENDORS, Vector, Vendor, Xfyun, texts_of, vector_of
from tests.support.http_service import Asked, HttpService, Told

TEXTS = ("星星是什么", "what is a star", "a\0b", "\ud800 lone", "", "what is a star", "🌟", *"bcdefghijkl")
LOCAL = ("e5-small-q4", "use-multilingual-v3", "onnx")
# A machine on which other tests run must not decide this.
PATIENT = {"timeout_ms": 30_000}

Opened = Callable[..., Any]


class Rig:
    """A vendor's stand-in and how to open an embedder on it."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.service = HttpService(vendor)
        self.breaker: list[tuple[str, BreakerState | None]] = []

    @asynccontextmanager
    async def open(self, **more: object) -> AsyncIterator[CachedEmbedder]:
        section = {**PATIENT, **self.vendor.settings(self.service.url), "cache_bytes_max": 0, **more}
        async with open_embedder(embedder_settings(section), breaker_watch=self._watch) as embedder:
            yield embedder

    def answer(self, told: Told) -> None:
        """Answer this from here on, whatever is asked."""
        self.service.answer = lambda _: told

    def _watch(self, backend: str, server: str, state: BreakerState | None) -> None:
        self.breaker.append((backend, state))


@pytest.fixture(params=VENDORS, ids=lambda vendor: vendor.type)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Each vendor in turn, listening."""
    made = Rig(request.param())
    async with made.service.serving():
        yield made


@pytest.fixture(params=[*VENDORS, *LOCAL], ids=lambda each: each if isinstance(each, str) else each.type)
async def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CachedEmbedder]:
    """Each embedder in turn, without its cache."""
    section: dict[str, object] = {**PATIENT, "cache_bytes_max": 0, "chars_max": 160, "scheduling": "normal"}
    if not isinstance(request.param, str):
        rig = Rig(request.param())
        async with rig.service.serving(), rig.open() as opened:
            yield opened
        return
    if request.param == "onnx":
        section |= {"type": "onnx", "path": write_onnx_model(tmp_path / "letters")}
    else:
        section |= {"type": "embedded", "model": request.param}
    async with open_embedder(embedder_settings(section)) as opened:
        yield opened


async def test_vectors_are_float32_of_unit_length(embedder: CachedEmbedder) -> None:
    """One for each text, in every script, whatever the model gives by itself."""
    vectors = await embedder.embed(TEXTS)
    assert (np.float32, len(TEXTS), embedder.dimensions) == (vectors.dtype, *vectors.shape)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_the_same_text_has_the_same_vector(embedder: CachedEmbedder) -> None:
    """Within one call and in the next, and not the vector of another."""
    first, again = await embedder.embed(TEXTS), await embedder.embed(TEXTS)
    assert np.array_equal(first, again)
    assert np.array_equal(first[1], first[5])
    assert first[0] @ first[1] < 0.999


async def test_a_batch_gives_what_single_calls_give(embedder: CachedEmbedder) -> None:
    """In the order of the texts, although some APIs answer in another."""
    together = await embedder.embed(TEXTS)
    singly = np.concatenate([await embedder.embed([text]) for text in TEXTS])
    assert np.allclose(together, singly, atol=1e-5)


async def test_no_texts_have_no_vectors(embedder: CachedEmbedder) -> None:
    """Nothing is asked for them."""
    assert 0 == len(await embedder.embed([]))


async def test_its_identity_is_stable(embedder: CachedEmbedder) -> None:
    """It does not change while it works, and says more than the type."""
    before = embedder.identity
    await embedder.check()
    assert before == embedder.identity
    assert before.startswith(f"{embedder.name}/")
    assert len(before) > len(embedder.name) + 8


async def test_batches_stay_below_the_limits_of_the_api(rig: Rig) -> None:
    """120 texts take as many calls as the vendor wants, and `batch` makes it more."""
    texts = [f"text {number}" for number in range(120)]
    async with rig.open(batch=256) as embedder:
        whole = await embedder.embed(texts)
    sizes = [texts_of(asked) for asked in rig.service.asked]
    assert 120 == sum(sizes)
    async with rig.open(batch=7) as embedder:
        rig.service.asked.clear()
        parts = await embedder.embed(texts)
    assert max(map(texts_of, rig.service.asked)) <= 7
    assert np.array_equal(whole, parts)


async def test_the_prefix_goes_before_every_text(rig: Rig) -> None:
    """And makes another embedder of it."""
    async with rig.open(prefix="query: ") as prefixed, rig.open() as bare:
        assert np.array_equal(await prefixed.embed(["star"]), await bare.embed(["query: star"]))
        assert prefixed.identity != bare.identity


async def test_a_wrong_key_is_rejected_and_not_repeated_to_anyone(rig: Rig) -> None:
    """The error names the embedder, never the key, although vendors quote it; asking goes on being refused."""
    rig.vendor.key = "another"
    if rig.vendor.type == "ollama":
        rig.answer(Told(401, {"error": f"unauthorized {KEY}"}))
    async with rig.open() as embedder:
        with pytest.raises(BackendRejected) as raised:
            await embedder.embed(["star"])
    assert rig.vendor.type == raised.value.backend
    assert not {KEY, SECRET, "authorization="} & set(str(raised.value).replace("?", " ").split())
    assert KEY not in str(raised.value)


def _all_but(*types: str) -> list[type[Vendor]]:
    return [vendor for vendor in VENDORS if vendor.type not in types]


def _of_length(length: int) -> Callable[[str, int], Vector]:
    return lambda text, _: vector_of(text, length)


BROKEN: dict[str, tuple[Callable[[str, int], Vector], str]] = {
    "another dimension": (_of_length(9), "9 dimensions, not 8"),
    "no number": (lambda text, dimensions: [None, *vector_of(text, dimensions - 1)], "not a finite number"),
    "zero": (lambda _, dimensions: [0.0] * dimensions, "zero"),
    "one dimension": (_of_length(1), "1 dimensions"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_vectors_of_no_use_are_rejected(rig: Rig, name: str) -> None:
    """With what is wrong with them; the embedder goes on working."""
    make, reason = BROKEN[name]
    async with rig.open() as embedder:
        await embedder.embed(["star"])
        rig.vendor.make = make
        with pytest.raises(BackendRejected, match=reason if name != "one dimension" else "dimensions"):
            await embedder.embed(["star"])
        rig.vendor.make = vector_of
        await embedder.embed(["star"])


@pytest.mark.parametrize("rig", _all_but("xfyun"), ids=lambda vendor: vendor.type, indirect=True)
async def test_vectors_of_different_lengths_are_rejected(rig: Rig) -> None:
    """A batch is one array or nothing."""
    rig.vendor.make = lambda text, _: vector_of(text, 8 + len(text) % 2)
    async with rig.open() as embedder:
        with pytest.raises(BackendRejected):
            await embedder.embed(["a", "bb"])


REFUSALS = {
    "400": (Told(400, {"error": {"code": "bad"}}), BackendRejected),
    "403": (Told(403, b"no"), BackendRejected),
    "404": (Told(404, b""), BackendRejected),
    "429": (Told(429, {"error": {"code": "rate_limit_exceeded"}}), BackendUnavailable),
    "500": (Told(500, b"oops"), BackendUnavailable),
    "503": (Told(503, b"", {"retry-after": "1"}), BackendUnavailable),
    "redirect": (Told(307, b"", {"location": "http://127.0.0.1:1/"}), BackendRejected),
    "nothing": (Told(204, b""), BackendRejected),
    "garbage": (Told(200, b"\x00\xff garbage"), BackendRejected),
    "NaN is no JSON": (Told(200, b"[NaN, NaN]"), BackendRejected),
    "another shape": (Told(200, {"hello": "world"}), BackendRejected),
    "a number": (Told(200, b"17"), BackendRejected),
    "empty list": (Told(200, b"[]"), BackendRejected),
    "words for vectors": (Told(200, {"data": "x", "output": 1, "embeddings": None, "code": 200}), BackendRejected),
    "compressed": (Told(200, b"\x1f\x8b\x08", {"content-encoding": "gzip"}), BackendRejected),
    "no HTTP": (Told(raw=b"SSH-2.0-OpenSSH\r\n\r\n"), BackendUnavailable),
    "cut short": (Told(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), BackendUnavailable),
    "hangs up": (Told(raw=b""), BackendUnavailable),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_service_that_fails_is_told_apart(rig: Rig, name: str) -> None:
    """What may pass is unavailable, what will not is rejected; nothing else is ever raised."""
    told, expected = REFUSALS[name]
    rig.answer(told)
    async with rig.open() as embedder:
        with pytest.raises(BackendError) as raised:
            await embedder.embed(["star"])
    assert expected is _kind(raised.value)
    assert rig.vendor.type == raised.value.backend


def _kind(error: BackendError) -> type[BackendError]:
    return next(kind for kind in (BackendTimeout, BackendUnavailable, BackendRejected) if isinstance(error, kind))


async def test_redirects_are_not_followed(rig: Rig) -> None:
    """Whoever redirects would be told the key and the question."""
    rig.answer(Told(308, b"", {"location": f"{rig.service.url}/elsewhere"}))
    async with rig.open() as embedder:
        with pytest.raises(BackendRejected, match="redirects are not followed"):
            await embedder.embed(["star"])
    assert 1 == len(rig.service.asked)


async def test_a_slow_service_is_given_up_in_time(rig: Rig) -> None:
    """The deadline holds for all of it."""
    rig.service.answer = lambda _: Told(delay_s=30)
    async with rig.open(timeout_ms=30) as embedder:
        with pytest.raises(BackendTimeout, match="30 ms"):
            await embedder.embed(["star"])


async def test_an_answer_that_is_too_large_is_not_read(rig: Rig) -> None:
    """It is refused where it passes the bound."""
    rig.answer(Told(200, b"[" + b"0," * 4096 + b"0]"))
    async with rig.open(response_bytes_max=1024) as embedder:
        with pytest.raises(BackendRejected, match="longer than 1024 bytes"):
            await embedder.embed(["star"])


async def test_nobody_there_is_unavailable(rig: Rig) -> None:
    """At once."""
    async with rig.open(url="http://127.0.0.1:9") as embedder:
        with pytest.raises(BackendUnavailable):
            await embedder.embed(["star"])


async def test_the_breaker_opens_and_one_call_closes_it(rig: Rig) -> None:
    """While it is open nothing is asked, except one call now and then."""
    vendor = rig.service.answer
    rig.answer(Told(500))
    async with rig.open(failures_max=2, probe_ms=60_000) as embedder:
        for _ in range(4):
            with pytest.raises(BackendUnavailable):
                await embedder.embed(["star"])
        assert 2 == len(rig.service.asked)
    rig.service.asked.clear()
    async with rig.open(failures_max=2, probe_ms=10) as embedder:
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                await embedder.embed(["star"])
        rig.service.answer = vendor
        await asyncio.sleep(0.02)
        await embedder.embed(["star"])
        await embedder.embed(["moon"])
    states = [state for _, state in rig.breaker]
    closed, opened = BreakerState.CLOSED, BreakerState.OPEN
    assert [closed, opened, None, closed, opened, closed, None] == states


async def test_a_key_file_is_read_again_when_it_changes(rig: Rig, tmp_path: Path) -> None:
    """A rotated key is picked up by an embedder that is open, within a second."""
    if rig.vendor.type == "ollama":
        rig.vendor.key = "k-first"
    name = "app_secret" if rig.vendor.type == "textin" else "api_key"
    file = tmp_path / "key"
    file.write_text("k-first\n")
    rig.vendor.key = "k-first"
    async with rig.open(failures_max=10_000, **{name: None, f"{name}_file": file}) as embedder:
        await embedder.embed(["star"])
        file.write_text("k-second\n")
        rig.vendor.key = "k-second"
        for _ in range(200):
            try:
                await embedder.embed(["star"])
                break
            except BackendRejected:
                await asyncio.sleep(0.01)
        else:
            pytest.fail("the new key was not picked up")


@pytest.mark.parametrize("rig", _all_but("huggingface", "xfyun"), ids=lambda vendor: vendor.type, indirect=True)
async def test_asked_for_dimensions_are_asked_for_and_checked(rig: Rig) -> None:
    """Where the API can; a model that ignores it is refused."""
    async with rig.open(dimensions=4) as embedder:
        assert 4 == embedder.dimensions
        assert (1, 4) == (await embedder.embed(["star"])).shape
        rig.vendor.make = lambda text, _: vector_of(text)
        with pytest.raises(BackendRejected, match="8 dimensions, not 4"):
            await embedder.embed(["star"])


async def test_azure_with_a_dated_version_names_the_deployment_in_the_path() -> None:
    """As it was before the `v1` API; both are the same embedder."""
    rig = Rig(next(vendor for vendor in VENDORS if vendor.type == "azure_openai")())
    async with rig.service.serving(), rig.open(api_version="2024-10-21") as dated, rig.open() as current:
        assert np.array_equal(await dated.embed(["star"]), await current.embed(["star"]))
        assert dated.identity == current.identity
    assert "/openai/deployments/my%20embeddings/embeddings?api-version=2024-10-21" == rig.service.asked[0].target


async def test_indices_that_are_not_those_of_the_texts_are_rejected() -> None:
    """A vector given twice would be another question's."""
    rig = Rig(next(vendor for vendor in VENDORS if vendor.type == "openai")())
    data = [{"index": 1, "embedding": vector_of(text)} for text in "ab"]
    rig.answer(Told(body={"data": data}))
    async with rig.service.serving(), rig.open() as embedder:
        with pytest.raises(BackendRejected):
            await embedder.embed(["a", "b"])


@pytest.mark.parametrize("kind", ["openai", "ollama"])
async def test_servers_of_ones_own_need_no_key(kind: str) -> None:
    """No empty credential is sent to them either, and Ollama is told how long to keep the model."""
    rig = Rig(next(vendor for vendor in VENDORS if vendor.type == kind)())
    rig.answer(Told(body={"data": [{"index": 0, "embedding": [1, 2]}], "embeddings": [[1, 2]]}))
    more = {"api_key": None} | ({"keep_alive": "30m"} if kind == "ollama" else {})
    async with rig.service.serving(), rig.open(**more) as embedder:
        await embedder.embed(["star"])
    assert "authorization" not in rig.service.asked[0].headers
    assert ("30m" if kind == "ollama" else None) == rig.service.asked[0].json.get("keep_alive")


async def test_xfyun_codes_in_a_good_answer_are_told_apart() -> None:
    """A used-up licence may pass, a bad parameter will not; both open no door to the vectors."""
    rig = Rig(Xfyun())
    async with rig.service.serving(), rig.open() as embedder:
        for code, kind in ((11202, BackendUnavailable), (10313, BackendRejected), ("x", BackendRejected)):
            rig.answer(Told(body={"header": {"code": code, "message": "no"}}))
            with pytest.raises(kind):
                await embedder.embed(["star"])


async def test_a_path_behind_the_url_belongs_to_the_signature() -> None:
    """Of the services with a path of their own."""
    rig = Rig(Xfyun())
    async with rig.service.serving(), rig.open(url=f"{rig.service.url}/v1/private/s50d55a16") as embedder:
        await embedder.embed(["star"])
    assert rig.service.asked[0].target.startswith("/v1/private/s50d55a16?")


SIMILAR: dict[str, tuple[float, ...]] = {
    "e5-small-q4": (0.997, 0.976, 0.893, 0.943),
    "use-multilingual-v3": (0.978, 0.810, 0.634, 0.624),
}


@pytest.mark.parametrize("model", SIMILAR)
async def test_the_three_questions_of_the_guide(model: str) -> None:
    """The embedded default takes the first three for one question at its threshold; the light one misses the third."""
    section = {"type": "embedded", "model": model, "chars_max": 160, "scheduling": "normal", **PATIENT}
    async with open_embedder(embedder_settings(section)) as embedder:
        stars: Vectors = await embedder.embed(
            ["星星是什么", "什么是星星", "星星通常指什么", "月亮是什么", "星星有多少颗"]
        )
        found = stars[1:] @ stars[0]
        threshold = embedder.default_threshold or 0.0
        assert embedder.is_calibrated
    assert np.allclose(SIMILAR[model], found, atol=0.01)
    served = [True, model == "e5-small-q4", False, False]
    assert served == [bool(each >= threshold) for each in found]


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.type)
def test_the_stand_ins_refuse_what_no_vendor_would_take(vendor: type[Vendor]) -> None:
    """Their own checks are checked: another path or a wrong credential gets no vectors."""
    target = "/nowhere?host=h&date=Mon,%2001%20Jan%202024%2000:00:00%20GMT&authorization=eA=="
    told = vendor()(Asked("POST", target, {"authorization": "Bearer wrong", "host": "h"}, b"{}"))
    assert told.status in {401, 403, 404}
