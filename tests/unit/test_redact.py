"""What may be shown of content: length and hash, and tracebacks that quote none of it."""

from __future__ import annotations

import pytest

from ai_cache_extproc.errors import BackendTimeout
from ai_cache_extproc.telemetry.redact import digest, message_of, traceback_of

SECRET = "sk-canary-0123456789"


def test_a_digest_is_a_length_in_bytes_and_a_short_hash() -> None:
    """Text and its UTF-8 bytes have the same digest, and it is stable."""
    assert "len=3,sha=ba7816bf" == digest("abc") == digest(b"abc")
    assert "len=2," == digest("é")[:6]
    assert digest("\ud800").startswith("len=3,")


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_message_that_may_quote_content_is_a_digest() -> None:
    """A KeyError of a client's key shows where, not what."""
    text = traceback_of(raised(KeyError(SECRET)))
    assert SECRET not in text
    assert "KeyError: len=22,sha=" in text
    assert "in raised" in text


@pytest.mark.parametrize("error", [BackendTimeout("redis", "get", "slow"), OSError(2, "No such file")])
def test_a_message_of_ours_or_of_the_system_is_shown(error: Exception) -> None:
    """What we write ourselves never holds content, so it is not hidden from the operator."""
    assert f"{type(error).__name__}: {error}" == message_of(error)


def test_an_error_without_a_message_is_its_type() -> None:
    """There is nothing to hash."""
    assert "ValueError" == message_of(ValueError())


def test_causes_and_contexts_are_shown_and_redacted() -> None:
    """The whole chain is there, and no link of it quotes content."""
    try:
        try:
            try:
                raise ValueError(SECRET)
            except ValueError:
                raise LookupError(SECRET)  # noqa: B904 - the context is what is tested
        except LookupError as error:
            raise BackendTimeout("redis", "get", "slow") from error
    except BackendTimeout as error:
        text = traceback_of(error)
    assert SECRET not in text
    assert ["ValueError", "LookupError", "BackendTimeout"] == [
        line.partition(":")[0] for line in text.splitlines() if line[:1] not in " TD" and ":" in line
    ]
    assert "direct cause" in text
    assert "another exception occurred" in text


def test_a_suppressed_context_stays_hidden() -> None:
    """`raise ... from None` means the same here as anywhere."""
    with pytest.raises(BackendTimeout) as caught:
        try:
            raise ValueError(SECRET)
        except ValueError:
            raise BackendTimeout("redis", "get", "slow") from None
    assert "ValueError" not in traceback_of(caught.value)


def test_every_error_in_a_group_is_shown_and_redacted() -> None:
    """A TaskGroup's errors are all there."""
    group = raised(ExceptionGroup("tasks failed", [ValueError(SECRET), OSError(2, "gone")]))
    text = traceback_of(group)
    assert SECRET not in text
    assert "ExceptionGroup: tasks failed, 2 inside" in text
    assert "ValueError: len=" in text
    assert "FileNotFoundError: [Errno 2] gone" in text
