"""`/stats` and `/readyz` of several workers as one document each, in the shape that one sidecar has. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ai_cache_extproc.admin.health import OK

# Parsed JSON: a worker's document, whose shape `pages.py` decides.
Document = Mapping[str, Any]


def joined(documents: Sequence[Document], way: Callable[[Iterable[float]], float] = sum) -> dict[str, Any]:
    """Numbers made into one, in every depth; of texts the first stays. None counts as not known."""
    return {
        name: _value([document.get(name) for document in documents], way) for name in dict.fromkeys(_names(documents))
    }


def merged_stats(
    documents: Sequence[Document], *, requests: Mapping[str, int], bypasses: Mapping[str, int], shared_store: bool
) -> dict[str, Any]:
    """The figures of all workers. requests, bypasses: as counted, processes that are gone included.

    shared_store: all look at the same store, so that each of them tells its whole size.
    """
    lookups = requests["hit"] + requests["miss"]
    stores = [document["store"] for document in documents]
    return {
        **joined(documents),
        "requests": dict(requests),
        "bypasses": dict(bypasses),
        "hit_ratio": round(requests["hit"] / lookups, 4) if lookups else None,
        "store": joined(stores, max if shared_store else sum),
    }


def merged_components(documents: Mapping[int, Document]) -> dict[str, Any]:
    """Each component of all workers: "ok" if it is so for all, else what is wrong with the first. By worker's number."""
    components: dict[str, Any] = {}
    for number, document in documents.items():
        for name, state in document["components"].items():
            if isinstance(state, bool):
                components[name] = components.get(name, False) or state
            elif components.get(name, OK) == OK:
                components[name] = state if state == OK else f"worker {number}: {state}"
    return components


def _names(documents: Sequence[Document]) -> Iterable[str]:
    return (name for document in documents for name in document)


def _value(values: Sequence[Any], way: Callable[[Iterable[float]], float]) -> Any:  # noqa: ANN401 - JSON
    known = [value for value in values if value is not None]
    if not known:
        return None
    if all(isinstance(value, Mapping) for value in known):
        return joined(known, way)
    if all(isinstance(value, int | float) for value in known):
        return way(known)
    return known[0]
