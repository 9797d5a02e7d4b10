"""Encrypted entries: opened by whoever has the key, where they were put, unchanged; by nobody else and nowhere else."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc._generated import entry_pb2 as messages
from ai_cache_extproc.cache.formats import native
from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.cache.formats.seal import Seal, Sealed
from ai_cache_extproc.errors import BackendRejected
from ai_cache_extproc.model import Captured, Entry, Identity, Mode

FIXTURE = Path(__file__).parent.parent / "fixtures" / "entries" / "version-2.base64"
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
DIGEST = bytes(range(32))
IDENTITY = Identity(f"aicache:0:0123456789abcdef:{DIGEST.hex()}", DIGEST, "flight")
CANARY = b"canary: the answer itself"
CAPTURED = Captured(Mode.JSON, "application/json", CANARY, created_s=1.0, expires_s=3601.0, elapsed_s=0.5)
ENTRY = Entry("openai_chat", "gpt-5", "default", (CAPTURED,))
SEALED = Native(Seal({"new": NEW}))


def reason_of(value: bytes, identity: Identity = IDENTITY, reader: Native = SEALED) -> str:
    """Why a value is refused."""
    with pytest.raises(BackendRejected) as caught:
        reader.decode(value, identity)
    return caught.value.reason


@given(payload=st.binary(), bound=st.binary())
def test_what_was_closed_is_opened(payload: bytes, bound: bytes) -> None:
    """Any payload comes back beside the bytes that it was bound to, and beside no others."""
    seal = Seal({"a": NEW})
    sealed = seal.close(payload, bound)
    assert ("a", 12, len(payload) + 16) == (sealed.key_id, len(sealed.nonce), len(sealed.ciphertext))
    assert payload == seal.open(sealed, bound)
    with pytest.raises(BackendRejected, match="encrypted for another key, or changed since"):
        seal.open(sealed, bound + b"\0")


def test_a_nonce_never_comes_again() -> None:
    """Ten thousand values of the same content have each a nonce, and a text, of their own."""
    seal = Seal({"a": NEW})
    made = [seal.close(b"same", b"") for _ in range(10_000)]
    assert (10_000, 10_000) == (len({sealed.nonce for sealed in made}), len({sealed.ciphertext for sealed in made}))


@pytest.mark.parametrize("nonce", [b"", b"short", bytes(200)], ids=["none", "short", "long"])
def test_an_impossible_nonce_is_refused(nonce: bytes) -> None:
    """A damaged value is refused like any other, whatever the library makes of it."""
    with pytest.raises(BackendRejected):
        Seal({"a": NEW}).open(Sealed("a", nonce, bytes(32)), b"")


def test_an_entry_comes_back_and_shows_nothing() -> None:
    """Nothing of the answer stands in the value; the facts that filters need do, and so does the id of the key."""
    value = SEALED.encode(ENTRY, IDENTITY)
    assert ENTRY == SEALED.decode(value, IDENTITY)
    assert b"canary" not in value
    assert b"application/json" not in value
    stored = messages.StoredEntry.FromString(value)
    header = messages.EntryHeader.FromString(stored.header)
    assert (2, "new", "gpt-5", "default") == (stored.version, stored.key_id, header.model, header.rule)


def test_a_ring_rotates_without_a_gap() -> None:
    """The first key closes, all of them open; once the old one is off the ring its values are refused, and no sooner."""
    before, during = Native(Seal({"old": OLD})), Native(Seal({"new": NEW, "old": OLD}))
    after = Native(Seal({"new": NEW}))
    first, second = before.encode(ENTRY, IDENTITY), during.encode(ENTRY, IDENTITY)
    assert [ENTRY, ENTRY, ENTRY] == [
        during.decode(first, IDENTITY),
        *(r.decode(second, IDENTITY) for r in (during, after)),
    ]
    assert "encrypted under a key that is not on the ring" == reason_of(first, reader=after)
    assert "encrypted under a key that is not on the ring" == reason_of(second, reader=before)


def test_another_key_under_the_same_id_opens_nothing() -> None:
    """An id that was given to another key by mistake costs the entries, not their secrecy."""
    value = Native(Seal({"new": OLD})).encode(ENTRY, IDENTITY)
    assert "encrypted for another key, or changed since" == reason_of(value)


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(IDENTITY, key=IDENTITY.key.replace("aicache:", "other:")),
        replace(IDENTITY, key=IDENTITY.key.replace(":0:", ":1:", 1)),
        replace(IDENTITY, key=IDENTITY.key.replace("0123456789abcdef", "fedcba9876543210")),
    ],
    ids=["prefix", "epoch", "scope"],
)
def test_a_value_that_was_moved_is_refused(elsewhere: Identity) -> None:
    """What was copied under another prefix, epoch or scope opens there for nobody, its digest being right or not."""
    assert "encrypted for another key, or changed since" == reason_of(SEALED.encode(ENTRY, IDENTITY), elsewhere)


def test_a_value_of_another_question_is_refused() -> None:
    """Its digest says so, and if that is changed with it, the seal does."""
    digest = bytes(reversed(DIGEST))
    other = replace(IDENTITY, key=IDENTITY.key.replace(DIGEST.hex(), digest.hex()), digest=digest)
    value = SEALED.encode(ENTRY, IDENTITY)
    assert "stored under another key" == reason_of(value, other)
    forged = checked(value, key_digest=digest)
    assert "encrypted for another key, or changed since" == reason_of(forged, other)


def checked(value: bytes, **fields: bytes | str | int) -> bytes:
    """The value with other fields, and a checksum that fits them."""
    stored = messages.StoredEntry.FromString(value)
    for name, content in fields.items():
        setattr(stored, name, content)
    stored.checksum = native._checksum(stored.key_digest, stored.header, stored.payload)
    return stored.SerializeToString()


def test_version_2_is_still_read() -> None:
    """Bytes sealed by the first release that could are opened under the key that sealed them."""
    value = base64.b64decode(FIXTURE.read_text())
    assert ENTRY == Native(Seal({"new": NEW, "old": OLD})).decode(value, IDENTITY)


def test_no_fact_in_clear_can_be_changed() -> None:
    """The header, the nonce, the text and the id of the key are all bound; a checksum that fits helps nobody."""
    value = Native(Seal({"new": NEW, "same": NEW})).encode(ENTRY, IDENTITY)
    reader = Native(Seal({"new": NEW, "same": NEW}))
    stored = messages.StoredEntry.FromString(value)
    header = messages.EntryHeader.FromString(stored.header)
    header.expires_s += 1
    for changed in (
        checked(value, header=header.SerializeToString()),
        checked(value, header=b""),
        checked(value, nonce=bytes(12)),
        checked(value, payload=stored.payload[:-1]),
        checked(value, payload=b""),
        checked(value, key_id="same"),
    ):
        assert "encrypted for another key, or changed since" == reason_of(changed, reader=reader)


def test_no_flipped_bit_is_served() -> None:
    """A value with any one bit turned is refused, or is the same entry: never another."""
    value = SEALED.encode(ENTRY, IDENTITY)
    for at in range(len(value)):
        for bit in range(8):
            damaged = value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :]
            try:
                assert ENTRY == SEALED.decode(damaged, IDENTITY)
            except BackendRejected:
                continue


def test_no_truncation_is_served() -> None:
    """A value cut anywhere is refused."""
    value = SEALED.encode(ENTRY, IDENTITY)
    for length in range(len(value)):
        reason_of(value[:length])


def test_with_a_key_nothing_in_clear_is_taken_and_without_one_nothing_sealed() -> None:
    """Whoever can write to the store cannot pass a value of theirs for one of ours by leaving the encryption out."""
    clear, sealed = Native().encode(ENTRY, IDENTITY), SEALED.encode(ENTRY, IDENTITY)
    assert "version 1, not 2" == reason_of(clear)
    assert "version 2, not 1" == reason_of(sealed, reader=Native())
    assert reason_of(checked(sealed, version=1), reader=Native())
    assert "encrypted under a key that is not on the ring" == reason_of(checked(clear, version=2))
