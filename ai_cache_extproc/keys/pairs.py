"""The name of a pair of questions, the same whichever comes first."""

from __future__ import annotations

import hmac

from ai_cache_extproc.keys.identity import Keyring
from ai_cache_extproc.keys.parts import encoded, joined

_VERSION = b"aicache pair 1"


def pair_name(keyring: Keyring, one: str, other: str) -> str:
    """64 hex digits of two entries' ids, which tell nothing of them; it outlives both, and every purge."""
    low, high = sorted((one, other))
    return hmac.digest(keyring.secret, joined((_VERSION, encoded(low), encoded(high))), "sha256").hex()
