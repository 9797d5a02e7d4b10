"""The `threshold` of a Higress document as a cosine: each vector store scores in its own way, and the plugin takes it as it comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ai_cache_extproc.config.higress_document import VectorService

THRESHOLD = 1000.0
"""The plugin's default, which every distance is below and no similarity above."""
CHROMA_IS_SQUARED = (
    "is read as a squared Euclidean distance, which Chroma's collections measure unless they were made otherwise"
)

_COSINES: Mapping[str, Callable[[float], float]] = {
    "qdrant": lambda score: score,
    "milvus": lambda score: score,
    "pinecone": lambda score: score,
    "elasticsearch": lambda score: 2 * score - 1,
    "dashvector": lambda score: 1 - score,
    "weaviate": lambda score: 1 - score,
    # Of two vectors of unit length. A cosine distance of the same number would let more through.
    "chroma": lambda score: 1 - score / 2,
}
_DISTANCES = frozenset({"dashvector", "chroma", "weaviate"})
"""Kinds whose score is a distance: closer is smaller. Of all others it is a similarity."""
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Unusable:
    """A threshold that tells nothing apart. key: which word of the document is to blame; fix: what to write."""

    key: str
    text: str
    fix: str


def cosine_of(service: VectorService) -> float | Unusable:
    """From which cosine on the threshold means neighbours."""
    assert service.type is not None
    threshold, relation = service.threshold or THRESHOLD, service.thresholdRelation
    is_distance = service.type in _DISTANCES
    shown = f"`{relation} {threshold:g}`"
    fix = (
        "write `thresholdRelation: lt` and, as in `threshold: 0.1`, a distance"
        if is_distance
        else "write `thresholdRelation: gt` and, as in `threshold: 0.9`, a similarity"
    )
    if relation.startswith("l") != is_distance:
        score = "smaller for the closer" if is_distance else "greater for the closer (cosine)"
        text = f"{shown} is the wrong way round for {service.type}, whose score is {score}"
        return Unusable("thresholdRelation", text, fix)
    given = "" if service.threshold else " (the plugin's default)"
    cosine = round(_COSINES[service.type](threshold), _DIGITS)
    if cosine > 1:
        return Unusable("threshold", f"{shown}{given} lets no neighbour through", fix)
    # Questions that have nothing in common are at a right angle.
    if cosine <= 0:
        return Unusable("threshold", f"{shown}{given} takes any question for a neighbour", fix)
    return cosine
