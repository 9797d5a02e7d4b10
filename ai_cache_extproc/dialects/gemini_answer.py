"""A whole answer of Gemini as its chunks: several in a stream, one in JSON. Trusts nothing it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson

from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.gemini_capture import END_EVENT
from ai_cache_extproc.dialects.openai_chat_answer import dumped, not_understood
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Mode, Reason

Members = dict[str, object]


def chunks(mode: Mode, body: bytes, line_bytes_max: int) -> list[Members]:
    """The parsed chunks of a whole answer, at least one. Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT."""
    if mode is Mode.STREAM:
        found = [_parsed(payload) for payload in _payloads(body, line_bytes_max)]
    else:
        whole = _parsed(body)
        found = whole if isinstance(whole, list) and mode is Mode.ARRAY else [whole]
    if not found:
        raise DialectError(Reason.EMPTY_ANSWER, "there are no chunks")
    return list(map(_chunk, found))


def written(chunks: Sequence[Members], mode: Mode) -> bytes:
    """Chunks as one answer in this mode; JSON is one chunk. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    texts = list(map(dumped, chunks))
    if mode is Mode.JSON:
        return texts[0]
    if mode is Mode.ARRAY:
        return b"[%b]" % b"\n,\r\n".join(texts)
    return b"".join(map(sse.encode, texts))


def candidates_of(chunk: Mapping[str, object]) -> Iterator[tuple[int, Members]]:
    """The candidates in a chunk with their index, which is left out where it is 0. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    candidates = chunk.get("candidates")
    if candidates is None:
        return
    if not isinstance(candidates, list) or not all(isinstance(candidate, dict) for candidate in candidates):
        raise not_understood("candidates is not a list of objects")
    seen = set()
    for candidate in candidates:
        index = candidate.get("index", 0)
        if not isinstance(index, int) or isinstance(index, bool) or index < 0 or index in seen:
            raise not_understood("an index is not a number, or comes twice in a chunk")
        seen.add(index)
        yield index, candidate


def parts_of(candidate: Mapping[str, object]) -> list[Members]:
    """The parts of a candidate, none where it has no content. Raises DialectError(ANSWER_NOT_UNDERSTOOD)."""
    content = candidate.get("content") or {}
    parts = content.get("parts") if isinstance(content, dict) else content
    if parts is None:
        return []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise not_understood("parts is not a list of objects")
    return parts


def _payloads(body: bytes, line_bytes_max: int) -> list[bytes]:
    decoder = sse.FrameDecoder(line_bytes_max)
    frames = decoder.feed(body)
    if decoder.feed(b"\n\n"):
        raise DialectError(Reason.CUT, "the last event is not complete")
    if any(frame.event == "error" for frame in frames):
        raise DialectError(Reason.IN_BAND_ERROR, "an error event")
    payloads = [frame.data for frame in frames if frame.data is not None]
    if payloads and payloads[-1] == END_EVENT.value:
        payloads.pop()
    return payloads


def _parsed(text: bytes) -> object:
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise not_understood("a chunk is not JSON") from error
    return value


def _chunk(value: object) -> Members:
    if not isinstance(value, dict):
        raise not_understood("a chunk is not an object")
    if value.get("error") is not None:
        raise DialectError(Reason.IN_BAND_ERROR, "an error in a chunk")
    return value
