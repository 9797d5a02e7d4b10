"""Entries for tests that are about what is known of one, not about its answer."""

from __future__ import annotations

from ai_cache_extproc.model import Alias, Captured, Entry, Identity, Layout, Mode

NOW_S = 1_800_000_000.0
TOKEN = "token-of-the-tests"
BEARER = {"authorization": f"Bearer {TOKEN}"}
DIGEST = bytes(range(32))
SCOPE = "0123456789abcdef"
IDENTITY = Identity(f"aicache:7:{SCOPE}:{DIGEST.hex()}", DIGEST, "flight")
FOREIGN = Identity("What is a star?", DIGEST, "flight", Layout.HIGRESS)

ALIAS = Alias(
    f"aicache:7:{SCOPE}:{'ab' * 32}",
    b"\xab" * 32,
    0.97,
    7,
    dialect="openai_chat",
    model="m",
    rule="r",
    created_s=NOW_S,
    expires_s=NOW_S + 60,
    tags=("t",),
    purges=3,
)
"""Another entry answers."""


def entry_of(*, purges: int = 0, created_s: float = NOW_S, model: str = "m", tags: tuple[str, ...] = ()) -> Entry:
    """An entry whose lookup knew of so many purges."""
    captured = Captured(Mode.JSON, "application/json", b"{}", created_s, created_s + 60, 0.5)
    return Entry("openai_chat", model, "default", (captured,), tags, purges)
