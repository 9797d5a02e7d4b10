"""A secret for a service: from the document, or from a file that may be rotated while we run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from ai_cache_extproc.errors import BackendUnavailable

_LOOK_S = 1.0
_BYTES_MAX = 64 * 1024


class Credential:
    """One secret. A file is read again once a second at most, so that a rotated secret is picked up."""

    def __init__(
        self,
        backend: str,
        value: SecretStr | None,
        file: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """backend: its name in errors. clock: monotonic seconds."""
        self._backend = backend
        self._text = "" if value is None else value.get_secret_value()
        self._file = file
        self._clock = clock
        self._look_s = -math.inf

    def text(self) -> str:
        """The secret, empty where none is configured. Raises BackendUnavailable for a file of no use."""
        if self._file is None or self._clock() < self._look_s:
            return self._text
        try:
            with self._file.open("rb") as opened:
                text = opened.read(_BYTES_MAX).decode("ascii").strip()
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise self._unusable("is not ASCII text") from None
        if not text.isprintable() or not text:
            raise self._unusable("holds no key in one line")
        self._text, self._look_s = text, self._clock() + _LOOK_S
        return text

    def _unusable(self, reason: str) -> BackendUnavailable:
        return BackendUnavailable(self._backend, "authorize", f'key file "{self._file}" {reason}')
