"""Every error that this project raises on purpose, in one tree.

Drivers translate their library's exceptions into this tree at their own edge.
"""

from __future__ import annotations


class AICacheError(Exception):
    """Base of everything raised on purpose."""


class ConfigError(AICacheError):
    """A configuration that must not start.

    path: dotted field path (`store.sqlite.path`), empty for the document as a whole.
    reason: the value and the way out. source: `FILE:LINE` where the value stands, if known.
    """

    def __init__(self, path: str, reason: str, *, source: str | None = None) -> None:
        self.path = path
        self.reason = reason
        self.source = source
        super().__init__(": ".join(part for part in (source, path, reason) if part))

    @property
    def faults(self) -> tuple[ConfigError, ...]:
        """This one, so that a reader need not tell it from `ConfigFaults`."""
        return (self,)


class ConfigFaults(AICacheError):
    """A configuration with several faults, in the order in which to read them; one line each as text."""

    def __init__(self, faults: tuple[ConfigError, ...]) -> None:
        self.faults = faults
        super().__init__("\n".join(map(str, faults)))


class DialectError(AICacheError):
    """A body that the cache does not take; the request itself goes on untouched.

    reason: one of the words of `model.Reason`. detail: what was seen, without content.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class BackendError(AICacheError):
    """A store, index or embedder that did not do what it was asked."""

    def __init__(self, backend: str, operation: str, reason: str) -> None:
        self.backend = backend
        self.operation = operation
        self.reason = reason
        super().__init__(f"{backend} {operation}: {reason}")


class BackendTimeout(BackendError):
    """No answer inside the deadline."""


class BackendUnavailable(BackendError):
    """Not reachable, or not able to work at all."""


class BackendRejected(BackendError):
    """Reachable, but the operation or the value read was refused."""


class ProtocolViolation(AICacheError):
    """Envoy, or our own code, left the phase table."""
