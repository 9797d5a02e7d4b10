"""Which LLM API a path belongs to. A path that no dialect claims is none of our business."""

from __future__ import annotations

from ai_cache_extproc.dialects.base import Dialect
from ai_cache_extproc.dialects.openai_chat import OpenAIChat


class Dialects:
    """The path table: the longest suffix wins."""

    def __init__(self, sse_line_bytes_max: int) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        dialects: tuple[Dialect, ...] = (OpenAIChat(sse_line_bytes_max=sse_line_bytes_max),)
        table = [(suffix, dialect) for dialect in dialects for suffix in dialect.path_suffixes]
        self._table = sorted(table, key=lambda claim: len(claim[0]), reverse=True)
        self._suffixes = tuple(suffix for suffix, _ in self._table)

    def match(self, path: str) -> Dialect | None:
        """The dialect spoken at `path`; its query does not count. None for all other traffic."""
        path = path.partition("?")[0]
        if not path.endswith(self._suffixes):
            return None
        return next(dialect for suffix, dialect in self._table if path.endswith(suffix))
