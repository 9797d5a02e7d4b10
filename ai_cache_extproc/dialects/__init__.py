"""Which LLM API a request speaks. A path that no dialect claims is none of our business, unless a rule says so."""

from __future__ import annotations

from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.config.template import Template
from ai_cache_extproc.dialects.anthropic_count_tokens import AnthropicCountTokens
from ai_cache_extproc.dialects.anthropic_messages import AnthropicMessages
from ai_cache_extproc.dialects.base import Dialect
from ai_cache_extproc.dialects.dashscope import DashScope
from ai_cache_extproc.dialects.gemini import Gemini
from ai_cache_extproc.dialects.gemini_count_tokens import GeminiCountTokens
from ai_cache_extproc.dialects.ollama import Ollama
from ai_cache_extproc.dialects.openai_chat import OpenAIChat
from ai_cache_extproc.dialects.openai_completions import OpenAICompletions
from ai_cache_extproc.dialects.openai_embeddings import OpenAIEmbeddings
from ai_cache_extproc.dialects.openai_responses import OpenAIResponses
from ai_cache_extproc.dialects.template import TemplateDialect


class Dialects:
    """The path table, where the longest suffix wins, and what rules make of paths and templates."""

    def __init__(self, sse_line_bytes_max: int) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max
        dialects: tuple[Dialect, ...] = (
            OpenAIChat(sse_line_bytes_max=sse_line_bytes_max),
            OpenAICompletions(sse_line_bytes_max=sse_line_bytes_max),
            OpenAIResponses(sse_line_bytes_max=sse_line_bytes_max),
            OpenAIEmbeddings(),
            DashScope(sse_line_bytes_max=sse_line_bytes_max),
            Ollama(line_bytes_max=sse_line_bytes_max),
            AnthropicMessages(sse_line_bytes_max=sse_line_bytes_max),
            AnthropicCountTokens(),
            Gemini(sse_line_bytes_max=sse_line_bytes_max),
            GeminiCountTokens(sse_line_bytes_max=sse_line_bytes_max),
        )
        self.built_in = dialects
        table = [(suffix, dialect) for dialect in dialects for suffix in dialect.path_suffixes]
        self._table = sorted(table, key=lambda claim: len(claim[0]), reverse=True)
        self._suffixes = tuple(suffix for suffix, _ in self._table)
        self._templates: dict[Template, Dialect] = {}

    def match(self, path: str, rule: Rule | None = None) -> Dialect | None:
        """The dialect spoken at `path`, whose query does not count; or that of the rule, whatever the path.

        None for all other traffic.
        """
        if rule is not None and rule.template is not None:
            return self._of(rule.template)
        path = path.partition("?")[0]
        if not path.endswith(self._suffixes):
            return None
        return next(dialect for suffix, dialect in self._table if path.endswith(suffix))

    def _of(self, template: Template) -> Dialect:
        dialect = self._templates.get(template)
        if dialect is None:
            # At most one for each rule of each document that was in effect.
            dialect = self._templates[template] = TemplateDialect(template, sse_line_bytes_max=self._line_bytes_max)
        return dialect
