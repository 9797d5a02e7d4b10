"""The sections of a rule that make any JSON API cacheable by paths and templates alone, the way of Higress' ai-cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ai_cache_extproc.config.section import Section
from ai_cache_extproc.paths import compile_path
from ai_cache_extproc.paths.template import compile_template

QUESTION_PATH = "messages.@reverse.0.content"
ANSWER_PATH = "choices.0.message.content"
STREAM_PATH = "choices.0.delta.content"
TOOL_CALLS_PATH = "choices.0.delta.tool_calls"
RESPONSE = (
    '{"id":"from-cache","choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}],'
    '"model":"from-cache","object":"chat.completion","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}'
)
STREAM_RESPONSE = (
    'data:{"id":"from-cache","choices":[{"index":0,"delta":{"role":"assistant","content":"%s"},"finish_reason":"stop"}],'
    '"model":"from-cache","object":"chat.completion.chunk",'
    '"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}\n\ndata:[DONE]\n\n'
)


def _path(text: str) -> str:
    compile_path(text)
    return text


def _json_template(text: str) -> str:
    compile_template(text, is_stream=False)
    return text


def _stream_template(text: str) -> str:
    compile_template(text, is_stream=True)
    return text


Path = Annotated[str, Field(min_length=1), AfterValidator(_path)]


class Template(Section):
    """Where the question and the answer stand, and what an answer from the cache looks like.

    Paths are GJSON, or JSONPath where they begin with `$`. Only the text is kept; it answers streams and JSON alike.
    """

    question: Literal["last", "all"] = "last"
    """`last`: what stands at `question_path`. `all`: the texts of all messages with the role `user`, a line each."""
    question_path: Path = QUESTION_PATH
    """In the request's body. Requests without anything there are bypassed."""
    answer_path: Path = ANSWER_PATH
    """The text in a JSON answer."""
    stream_path: Path = STREAM_PATH
    """The piece of text in each event of a stream."""
    tool_calls_path: Path = TOOL_CALLS_PATH
    """Streams with anything there are not kept."""
    response: Annotated[str, AfterValidator(_json_template)] = RESPONSE
    """A JSON answer, with one `%s` for the text: inside quotes it takes the text, outside a whole JSON value."""
    stream_response: Annotated[str, AfterValidator(_stream_template)] = STREAM_RESPONSE
    """A whole stream, in the same way."""


class HigressValues(Section):
    """Entries as Higress' ai-cache keeps them: the question in clear in the key, the text in clear as the value."""

    key_prefix: str = Field("higress-ai-cache:", max_length=256)
    """Put before the question."""
    share: Literal["everyone", "credential"] = "everyone"
    """`everyone`: one key space without tenant or model, as the plugin has it, so that its entries are hits here and ours
    there. `credential`: each caller has their own, at the price of a warm Redis."""
    partitioned: bool = True
    """false: a question is compared with those of all models, system prompts and histories, as in the plugin; with `semantic`."""

    @model_validator(mode="after")
    def _apart(self) -> HigressValues:
        if self.share == "credential" and not self.partitioned:
            raise ValueError("has `partitioned: false`, which mixes the callers that `share: credential` keeps apart")
        return self
