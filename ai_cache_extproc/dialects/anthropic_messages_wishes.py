"""A message as a rule wants it replayed: without token counts, or under an id of its own. All else stays as it is."""

from __future__ import annotations

from ai_cache_extproc.config.rules import Replaying
from ai_cache_extproc.dialects.anthropic_messages_answer import Members, refuse_long_numbers
from ai_cache_extproc.dialects.openai_chat_replay import Change, Mint, renewed, rewritten, zeroed
from ai_cache_extproc.model import Mode

# As Anthropic makes them. Bedrock and Vertex say who they are ahead of it: msg_bdrk_01..., msg_vrtx_01...
_ID_PREFIX = "msg_"
_ID_VERSION = "01"
_ID_CHARS = 22


def message_change(wishes: Replaying, mint: Mint) -> Change | None:
    """What a rule wants changed in a message, and in every event of one; None if nothing."""
    if wishes.usage == "original" and wishes.ids == "original":
        return None

    def changed(members: Members) -> Members:
        if wishes.ids == "fresh":
            members = renewed(members, {"id": _fresh_id(members.get("id"), mint)})
        if wishes.usage == "zero" and members.get("usage"):
            members = members | {"usage": zeroed(members["usage"])}
        return members

    def change(members: Members) -> Members:
        match members.get("type"), members.get("message"):
            case "message_start", dict(message):
                return members | {"message": changed(message)}
            case (("message" | "message_delta"), _):
                return changed(members)
            case _:
                return members

    return change


def rewrite(mode: Mode, body: bytes, change: Change) -> bytes:
    """An answer with `change` made. Raises DialectError(ANSWER_NOT_UNDERSTOOD) where a number might not survive it."""
    if mode is Mode.JSON:
        refuse_long_numbers(body)
    return rewritten(mode, body, change)


def _fresh_id(old: object, mint: Mint) -> str:
    prefix = old[: old.rfind("_") + 1] if isinstance(old, str) else ""
    return f"{prefix or _ID_PREFIX}{_ID_VERSION}{mint.alphanumeric(_ID_CHARS)}"
