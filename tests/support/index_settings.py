"""Sections that describe an index, read as the document will be."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter

from ai_cache_extproc.config.indexes import AnyIndex, Index

_ADAPTER: TypeAdapter[AnyIndex] = TypeAdapter(Index)


def index_settings(section: Mapping[str, object]) -> AnyIndex:
    """The settings of a section. Raises ValidationError."""
    return _ADAPTER.validate_python(section)
