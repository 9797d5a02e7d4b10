"""What an embedder is: texts in, unit vectors out; and the one place where vectors are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]

OPERATION: Final = "embed"
CHECKED_TEXT: Final = "ping"
_NORM_MIN: Final = 1e-6


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how alike they are. Both sides of a comparison go the same way."""

    name: str
    """Its type in the configuration, as metrics and errors name it."""
    identity: str
    """Vendor, model, endpoint, version, prefix and length asked for: vectors of two identities never meet."""
    default_threshold: float | None
    """Cosine from which on two questions are taken for the same; None for a model that nobody has an idea of."""
    is_calibrated: bool
    """Whether that was measured; an estimate deserves a warning."""
    chars_max: int
    """Longer texts are the caller's to refuse."""

    @property
    def dimensions(self) -> int | None:
        """The length of the vectors; None until configured or first seen."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors in the order of `texts`: float32, unit length, shape (len(texts), dimensions).

        Raises BackendTimeout, BackendUnavailable; BackendRejected for vectors of no use.
        """
        ...

    async def check(self) -> None:
        """Embed a word. Raises BackendError."""
        ...


class UnusableVectors(ValueError):
    """What an embedder gave cannot be compared; the text says why."""


def unit_vectors(raw: object, *, count: int, dimensions: int | None) -> Vectors:
    """`raw` as unit vectors, one for each of `count` texts. Raises UnusableVectors.

    dimensions: the length they must have; None where any will do.
    """
    try:
        vectors = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnusableVectors("the vectors are not lists of numbers of one length") from error
    if vectors.ndim != 2 or len(vectors) != count:
        raise UnusableVectors(f"{count} texts got an array of shape {vectors.shape}, not one vector each")
    if dimensions is not None and vectors.shape[1] != dimensions:
        raise UnusableVectors(f"the vectors have {vectors.shape[1]} dimensions, not {dimensions}")
    if vectors.shape[1] < 2:
        raise UnusableVectors(f"the vectors have {vectors.shape[1]} dimensions")
    if not np.isfinite(vectors).all():
        raise UnusableVectors("a vector holds a value that is not a finite number")
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms < _NORM_MIN).any():
        raise UnusableVectors("a vector is zero, or too long for its direction to be told")
    unit: Vectors = (vectors / norms).astype(np.float32)
    return unit


def cleaned(text: str) -> str:
    """The text as models take it: a lone surrogate has no UTF-8, and some stop reading at a NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")


def identity_of(*parts: str | int | None) -> str:
    """One stable string of the parts; no part can forge the boundary to the next."""
    shown = ("" if part is None else str(part) for part in parts)
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in shown)
