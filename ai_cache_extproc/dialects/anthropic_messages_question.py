"""What every question to Anthropic's messages must be, for an answer as for a count of tokens."""

from __future__ import annotations

from collections.abc import Mapping

from ai_cache_extproc.dialects.openai_chat_request import no_question
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Reason

# Members that keep or read something at the upstream: a sandbox, the tools of other servers, a conversation that the
# upstream holds, a credit that can be spent once.
_SIDE_EFFECTS = ("container", "mcp_servers", "thread", "fallback_credit_token")
# Tools that the caller runs, whoever wrote their schema, and the search among the request's own tools. Whatever is not
# known to be one of them runs at the upstream: web search and fetch, code execution, MCP, advisors.
_OWN_TOOLS = ("bash_", "text_editor_", "computer_", "memory_", "browser_toolset_", "tool_search_tool_")
# Sources that carry what they name. A membership test on parsed JSON, which may be unhashable: tuples, not sets.
_CARRIED = ("base64", "text", "content")


def refuse_unknown_messages(body: Mapping[str, object]) -> None:
    """Raises DialectError: NOT_UNDERSTOOD, or REMOTE_MEDIA for what the upstream would fetch or has in its files.

    What it finds there may change, or be gone.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise no_question("messages is not a list with messages")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str | list):
            raise no_question("a message is not an object with content")
        if not isinstance(message["content"], str) and _points_elsewhere(message["content"]):
            raise DialectError(Reason.REMOTE_MEDIA, "a message points at media elsewhere")


def refuse_side_effects(body: Mapping[str, object]) -> None:
    """Raises DialectError(SIDE_EFFECT) for what makes the upstream remember something, or look at what it remembers."""
    for name in _SIDE_EFFECTS:
        if body.get(name) not in (None, []):
            raise DialectError(Reason.SIDE_EFFECT, name)
    diagnostics = body.get("diagnostics")
    if isinstance(diagnostics, dict) and diagnostics.get("previous_message_id") is not None:
        raise DialectError(Reason.SIDE_EFFECT, "a comparison with an earlier request")


def refuse_server_tools(body: Mapping[str, object]) -> None:
    """Raises DialectError: SIDE_EFFECT for tools that make the upstream act or look elsewhere; NOT_UNDERSTOOD."""
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise no_question("tools is not a list of objects")
    if not all(_is_own(tool.get("type")) for tool in tools):
        raise DialectError(Reason.SIDE_EFFECT, "a tool that the upstream runs")


def _is_own(kind: object) -> bool:
    return kind in (None, "custom") or (isinstance(kind, str) and kind.startswith(_OWN_TOOLS))


def _points_elsewhere(content: object) -> bool:
    """Whether any block, tool results and documents included, has a source that is not carried along.

    Without recursion: the caller chose how deep it is. What a tool was called with is the caller's own matter.
    """
    waiting = [content]
    while waiting:
        match waiting.pop():
            case list(items):
                waiting.extend(items)
            case dict(block):
                source = block.get("source")
                if isinstance(source, dict) and source.get("type") not in _CARRIED:
                    return True
                if block.get("type") == "container_upload":
                    return True
                waiting.extend(part for name, part in block.items() if name != "input")
            case _:
                pass
    return False
