"""Our own stored format: what is read is what was written, or nothing."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc._generated import entry_pb2 as messages
from ai_cache_extproc.cache.formats import native
from ai_cache_extproc.cache.formats.base import NotOurs
from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.cache.formats.seal import Seal
from ai_cache_extproc.dialects.usage import TOKENS_MAX
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.meaning import Asked
from ai_cache_extproc.model import Captured, Entry, Identity, Mode, Usage
from tests.support.entries import ALIAS, NOW_S

DIGEST = bytes(range(32))
NATIVE = Native()
FIXTURE = Path(__file__).parent.parent / "fixtures" / "entries" / "version-1.base64"

JSON = Captured(
    Mode.JSON,
    "application/json",
    b'{"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":"assistant","content":"\xc3\xa9"}}]}',
    created_s=1_800_000_000.25,
    expires_s=1_800_003_600.25,
    elapsed_s=0.75,
)
STREAM = Captured(
    Mode.STREAM,
    "text/event-stream; charset=utf-8",
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n',
    created_s=1_800_000_100.5,
    expires_s=1_800_003_700.5,
    elapsed_s=1.5,
)
ENTRY = Entry(dialect="openai_chat", model="gpt-5", rule="default", captures=(JSON, STREAM))
# Short and empty fields, so that a damaged byte is often one of the structure.
ENTRIES = [
    ENTRY,
    replace(ENTRY, captures=(JSON,)),
    replace(ENTRY, captures=(STREAM,), model="模型"),
    replace(ENTRY, captures=(replace(JSON, body=b"", content_type=""),), model="", rule=""),
    replace(ENTRY, captures=(replace(STREAM, body=bytes(300), elapsed_s=0.0),)),
    replace(ENTRY, captures=(replace(JSON, usage=Usage(1234, 56, 7)), replace(STREAM, usage=Usage(0, 0)))),
    replace(ENTRY, captures=(replace(JSON, body=b"\x0a\x00\x12\x00\x1a\x00" * 9),)),
]


def of(digest: bytes) -> Identity:
    """The identity whose key ends in this digest."""
    return Identity(f"aicache:0:0123456789abcdef:{digest.hex()}", digest, "lease")


class Outcomes(NamedTuple):
    """What became of damaged values."""

    rejected: int
    equal: int
    different: int


def read_all(entry: Entry, damaged: list[bytes]) -> Outcomes:
    """Decode each value; anything but an entry or BackendRejected fails the test by itself."""
    rejected = equal = different = 0
    for value in damaged:
        try:
            read = NATIVE.decode(value, of(DIGEST))
        except BackendRejected:
            rejected += 1
        else:
            equal, different = equal + (read == entry), different + (read != entry)
    return Outcomes(rejected, equal, different)


def stored(entry: Entry = ENTRY) -> messages.StoredEntry:
    """The outer message of an entry, to be spoilt."""
    return messages.StoredEntry.FromString(NATIVE.encode(entry, of(DIGEST)))


def sealed(*captures: messages.EntryCapture) -> bytes:
    """A value that checks out, with these captures."""
    message = stored()
    message.payload = messages.EntryPayload(captures=captures).SerializeToString()
    message.checksum = native._checksum(DIGEST, message.header, message.payload)
    return message.SerializeToString()


def reason_of(value: bytes, digest: bytes = DIGEST) -> str:
    """Why a value is refused."""
    with pytest.raises(BackendRejected) as caught:
        NATIVE.decode(value, of(digest))
    assert ("entry", "decode") == (caught.value.backend, caught.value.operation)
    return caught.value.reason


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_comes_back(entry: Entry) -> None:
    """Decoding what was encoded gives an equal entry."""
    assert entry == NATIVE.decode(NATIVE.encode(entry, of(DIGEST)), of(DIGEST))


finite = st.floats(allow_nan=False, allow_infinity=False)
tokens = st.integers(min_value=0, max_value=TOKENS_MAX)
usages = st.none() | st.builds(Usage, tokens, tokens, tokens)
captures = st.builds(Captured, st.sampled_from(Mode), st.text(), st.binary(), finite, finite, finite, usages)


@given(
    entry=st.builds(
        Entry,
        dialect=st.text(),
        model=st.text(),
        rule=st.text(),
        captures=st.lists(captures, min_size=1, max_size=2, unique_by=lambda captured: captured.mode).map(tuple),
        asked=st.none() | st.builds(Asked, st.text(), st.text()),
    ),
    digest=st.binary(min_size=32, max_size=32),
)
def test_any_entry_comes_back(entry: Entry, digest: bytes) -> None:
    """Whatever the fields hold, the entry is read as it was written."""
    assert entry == NATIVE.decode(NATIVE.encode(entry, of(digest)), of(digest))


@pytest.mark.parametrize("format_", [NATIVE, Native(Seal({"k": b"s" * 32}))], ids=["clear", "sealed"])
def test_an_alias_comes_back(format_: Native) -> None:
    """In the place of an entry, with the facts of the one that answers; a purge sees it as it sees that one."""
    value = format_.encode(ALIAS, of(DIGEST))
    assert ALIAS == format_.decode(value, of(DIGEST))
    facts = native.peek(f"aicache:0:0123456789abcdef:{DIGEST.hex()}", "aicache:", value)
    assert facts is not None
    assert (facts.model, facts.rule, facts.tags, facts.expires_s, facts.purges) == ("m", "r", ("t",), NOW_S + 60, 3)


def test_what_was_asked_is_sealed() -> None:
    """The text that is matched by its meaning is content, and stands nowhere in clear where answers are encrypted."""
    asked = replace(ENTRY, asked=Asked("a" * 32, "a private question"))
    assert b"a private question" not in Native(Seal({"k": b"s" * 32})).encode(asked, of(DIGEST))


def test_version_1_is_still_read() -> None:
    """Bytes written by the first release give the entry that was written then."""
    assert ENTRY == NATIVE.decode(base64.b64decode(FIXTURE.read_text()), of(DIGEST))


def test_version_1_is_still_written() -> None:
    """A change of the bytes we write needs a new version and a new golden file."""
    assert base64.b64decode(FIXTURE.read_text()) == NATIVE.encode(ENTRY, of(DIGEST))


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_truncation_is_read_as_another_entry(entry: Entry) -> None:
    """A value cut anywhere is refused."""
    whole = NATIVE.encode(entry, of(DIGEST))
    assert Outcomes(len(whole), 0, 0) == read_all(entry, [whole[:length] for length in range(len(whole))])


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_flipped_bit_is_read_as_another_entry(entry: Entry) -> None:
    """A value with any one bit turned is refused, or decodes to the same entry: never to another."""
    whole = NATIVE.encode(entry, of(DIGEST))
    damaged = [
        whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at in range(len(whole)) for bit in range(8)
    ]
    outcomes = read_all(entry, damaged)
    assert 8 * len(whole) == outcomes.rejected + outcomes.equal
    assert 0 == outcomes.different


@given(value=st.binary(max_size=200))
def test_foreign_bytes_are_refused(value: bytes) -> None:
    """Bytes that we did not write raise BackendRejected and nothing else."""
    reason_of(value)


def test_text_without_utf_8_is_refused() -> None:
    """Half a surrogate pair, which JSON can spell, is not stored."""
    with pytest.raises(BackendRejected, match="entry encode: text"):
        NATIVE.encode(replace(ENTRY, model="\ud800"), of(DIGEST))


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_refused(version: int) -> None:
    """A version that is not the one in use is refused, and named."""
    message = stored()
    message.version = version
    assert f"version {version}, not 1" == reason_of(message.SerializeToString())


@pytest.mark.parametrize("version", [3, 2**32 - 1])
def test_a_later_version_is_left_to_who_knows_it(version: int) -> None:
    """A version that only a later program knows is told apart, since another process may serve it."""
    message = stored()
    message.version = version
    with pytest.raises(NotOurs, match=f"version {version} is later than 2"):
        NATIVE.decode(message.SerializeToString(), of(DIGEST))


def test_a_value_under_another_key_is_refused() -> None:
    """A value that ended up under another key is refused."""
    assert "stored under another key" == reason_of(NATIVE.encode(ENTRY, of(DIGEST)), bytes(32))


def test_a_wrong_checksum_is_refused() -> None:
    """A value whose checksum does not fit is refused."""
    message = stored()
    message.checksum ^= 1
    assert "wrong checksum" == reason_of(message.SerializeToString())


def test_an_entry_without_captures_is_refused() -> None:
    """An entry holds at least one capture."""
    assert "no capture" == reason_of(sealed())


def test_two_captures_of_one_mode_are_refused() -> None:
    """An entry holds at most one capture per mode."""
    capture = messages.EntryCapture(mode=messages.CAPTURE_MODE_JSON, body=b"{}")
    assert "two captures of one mode" == reason_of(sealed(capture, capture))


def test_a_capture_of_an_unknown_mode_is_refused() -> None:
    """A capture that says no mode cannot be replayed."""
    assert "capture mode 0" == reason_of(sealed(messages.EntryCapture(body=b"{}")))


def test_a_payload_that_is_no_message_is_refused() -> None:
    """A payload with a right checksum must still be a payload."""
    message = stored()
    message.payload = b"\xff"
    message.checksum = native._checksum(DIGEST, message.header, message.payload)
    assert "not an entry" == reason_of(message.SerializeToString())
