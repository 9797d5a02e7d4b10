"""The other APIs of OpenAI and its likes: answers captured in any chunks, kept only whole, and replayed to the byte."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason, ResponseHead
from tests.support.openai_more_answers import DASHSCOPE, EVERY, OLLAMA, STREAMING, Api, case_id, cases, other

KEPT = cases(EVERY)
STREAMS = cases(STREAMING, mode=Mode.STREAM)
EVENT = re.compile(rb".+?(?:\r?\n){2}", re.DOTALL)


def _same_mode(api: Api, mode: Mode, name: str, chunks: list[bytes]) -> bytes:
    """What is replayed to who asks for the mode that came in these chunks."""
    body = api.fed(mode, chunks, name)
    assert body is not None
    api.settle(mode, body, name)
    replay = api.replay(api.question(mode, name), mode, body)
    assert replay is not None
    assert api.types[mode] == replay.content_type
    return replay.body


def _events(api: Api, stream: bytes) -> list[bytes]:
    """The stream in the pieces that an upstream sends: events, or lines."""
    return stream.splitlines(keepends=True) if api is OLLAMA else EVENT.findall(stream)


@pytest.mark.parametrize("case", KEPT, ids=case_id)
def test_captured_whole_and_byte_by_byte(case: tuple[Api, Mode, str]) -> None:
    """An answer in one chunk, or in one for each byte, is kept and replayed to the byte."""
    api, mode, name = case
    body = api.kept[mode][name]
    assert body == _same_mode(api, mode, name, [body])
    assert body == _same_mode(api, mode, name, [body[at : at + 1] for at in range(len(body))])


@pytest.mark.parametrize("case", STREAMS, ids=case_id)
def test_whole_at_the_end_event(case: tuple[Api, Mode, str]) -> None:
    """A stream is whole at its end event, though it goes on; what follows is no part of the answer."""
    api, mode, name = case
    stream = api.kept[mode][name]
    if not stream.endswith(b"\n"):
        stream += b"\n"
    more = b"data: more\n\n" if api is not OLLAMA else b'{"more":1}\n'
    assert stream == api.fed(mode, [stream + more], name, to_end=False)
    assert stream == api.fed(mode, [stream[:9], stream[9:], more], name, to_end=False)


@pytest.mark.parametrize("case", STREAMS, ids=case_id)
def test_nothing_after_the_end(case: tuple[Api, Mode, str]) -> None:
    """A capture that is whole stays as it is, whatever is fed to it or follows in trailers."""
    api, mode, name = case
    stream = api.kept[mode][name]
    capture = api.dialect.capture(api.question(mode, name), ResponseHead(200, {"content-type": api.types[mode]}))
    assert capture.feed(stream, end_of_stream=True)
    assert capture.feed(stream, end_of_stream=False)
    assert capture.end()
    assert (len(stream), stream) == (capture.size_bytes, capture.body())


@pytest.mark.parametrize("api", EVERY, ids=lambda api: api.folder)
def test_target(api: Api) -> None:
    """The path is part of the question as it is: the mode stands elsewhere."""
    assert "/v1/x?y=1" == api.dialect.target("/v1/x?y=1")


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(KEPT), st.data())
def test_captured_in_any_chunks(case: tuple[Api, Mode, str], data: st.DataObject) -> None:
    """An answer cut at random into chunks is captured to the byte, may be kept, and is replayed to the byte."""
    api, mode, name = case
    body = api.kept[mode][name]
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20).map(sorted))
    chunks = [body[start:end] for start, end in pairwise([0, *cuts, len(body)])]
    assert body == _same_mode(api, mode, name, chunks)


@pytest.mark.parametrize("case", STREAMS, ids=case_id)
def test_cut_after_every_event(case: tuple[Api, Mode, str]) -> None:
    """A stream that ends after k of its n events is never whole, however it is fed, and would be refused if it were."""
    api, mode, name = case
    stream = api.kept[mode][name]
    events = [event for event in _events(api, stream) if event.strip() and not event.startswith(b":")]
    for count in range(len(events)):
        cut = b"".join(events[:count])
        for chunks in ([cut], events[:count] or [b""], [cut[at : at + 7] for at in range(0, len(cut), 7)] or [b""]):
            assert api.fed(mode, chunks, name) is None
        with pytest.raises(DialectError):
            api.settle(mode, cut, name)


def test_cut_anywhere() -> None:
    """A thousand streams cut at random: not one is kept, be the cut inside an event or between two."""
    chance = random.Random(5)
    for _ in range(1000):
        api, mode, name = chance.choice(STREAMS)
        stream = api.kept[mode][name].rstrip()
        # The last line whole is an answer whole.
        cut = stream[: chance.randrange(len(stream) - 1)]
        assert api.fed(mode, [cut], name) is None, (name, len(cut))
        with pytest.raises(DialectError):
            api.settle(mode, cut, name)


@pytest.mark.parametrize("case", cases(STREAMING, "refused", Mode.STREAM), ids=case_id)
def test_bad_stream_is_never_kept(case: tuple[Api, Mode, str]) -> None:
    """A stream that came to a bad end is not whole, or is refused; also with a good answer before the bad event."""
    api, mode, name = case
    captured = api.fed(mode, [api.refused[mode][name]], name)
    if captured is not None:
        with pytest.raises(DialectError):
            api.settle(mode, captured, name)


@settings(deadline=None)
@given(st.sampled_from(EVERY), st.sampled_from([Mode.JSON, Mode.STREAM]), st.binary(max_size=200), st.data())
def test_any_body_is_judged(api: Api, mode: Mode, body: bytes, data: st.DataObject) -> None:
    """Whatever an upstream sends is refused with a word, or kept; nothing else is raised, and no replay fails."""
    good = data.draw(st.sampled_from(sorted(api.kept[Mode.JSON].values())))
    at = data.draw(st.integers(0, len(good)))
    for sent in (
        body,
        good[:at] + body + good[at:],
        b"data: " + body + b"\n\ndata: [DONE]\n\n",
        good[:at] + good[at + 9 :],
    ):
        with suppress(DialectError):
            api.settle(mode, sent)
        asked = api.question(other(mode)) if api in STREAMING else api.question(Mode.JSON)
        api.replay(asked, mode, sent)


@pytest.mark.parametrize(
    ("mode", "content_type"),
    [(mode, text) for mode in (Mode.JSON, Mode.STREAM) for text in ("", "text/html", "text/plain", "application/grpc")],
)
@pytest.mark.parametrize("api", EVERY, ids=lambda api: api.folder)
def test_other_content_types(api: Api, mode: Mode, content_type: str) -> None:
    """What no answer of the API looks like is not collected."""
    with pytest.raises(DialectError) as caught:
        api.dialect.capture(api.question(mode), ResponseHead(200, {"content-type": content_type}))
    assert Reason.CONTENT_TYPE == caught.value.reason


def test_streams_of_another_kind() -> None:
    """Events in the place of lines, and lines in that of events, are not collected."""
    for api, content_type in ((OLLAMA, "text/event-stream"), (DASHSCOPE, "application/x-ndjson")):
        with pytest.raises(DialectError):
            api.dialect.capture(api.question(Mode.STREAM), ResponseHead(200, {"content-type": content_type}))
