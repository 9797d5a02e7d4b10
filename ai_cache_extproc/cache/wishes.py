"""What a client asks of the cache with its request headers, as far as its rule lets it. Pure.

A wish makes the client's own answer fresher, keeps it out of the cache or shortens its life, and never the reverse: a
number that cannot be read is taken as the strictest one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ai_cache_extproc.cache.fields import directives
from ai_cache_extproc.config.rules import Rule
from ai_cache_extproc.model import Captured

_SECONDS_MAX = 2**31
"""RFC 9111, 1.2.2: a larger number is taken as this one."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Seconds are None where nothing is asked.

    refresh: only a fresh answer will do; that one is kept. only_if_cached: only a kept one will do.
    max_age_s: no kept answer that is older. min_fresh_s: none that expires earlier from here on.
    ttl_s: how long the answer may be kept at most. ignored: names of headers whose value means nothing.
    """

    no_store: bool = False
    refresh: bool = False
    only_if_cached: bool = False
    max_age_s: float | None = None
    min_fresh_s: float | None = None
    ttl_s: int | None = None
    ignored: tuple[str, ...] = ()

    def suits(self, captured: Captured, now_s: float) -> bool:
        """Whether this capture is young enough, and will be for long enough. An age that is not known is too high."""
        # RFC 9111, 5.2.1.1: who names an age wants no stale answer either. `max-stale`, which would, is not honoured.
        if self.max_age_s is not None and (now_s - captured.created_s > self.max_age_s or captured.expires_s <= now_s):
            return False
        return self.min_fresh_s is None or self.min_fresh_s <= captured.expires_s - now_s < math.inf

    @property
    def is_choosy(self) -> bool:
        """Whether an answer that suits others may not suit this client."""
        return self.max_age_s is not None or self.min_fresh_s is not None

    @property
    def takes_stale(self) -> bool:
        """Whether an answer past its lifetime could suit."""
        return not self.refresh and not self.is_choosy


NO_WISH = Wish()


def wish_of(headers: Mapping[str, str], rule: Rule) -> Wish:
    """What the client asks, without what the rule does not honour."""
    controls = rule.controls
    said = directives(headers.get("cache-control", ""))
    asked = {word: said[word] for word in controls.honour if word in said}
    ttl = headers.get(controls.ttl_header) if controls.ttl_header is not None else None
    if not asked and ttl is None:
        return NO_WISH
    ttl_s = None if ttl is None else _seconds(ttl.strip())
    max_age_s = _asked(asked.get("max-age"), otherwise=0)
    return Wish(
        no_store="no-store" in asked or ttl_s == 0,
        # max-age=0 asks for what no-cache asks for: nothing kept is young enough (RFC 9111, 5.2.1.1).
        refresh="no-cache" in asked or max_age_s == 0,
        only_if_cached="only-if-cached" in asked,
        max_age_s=max_age_s,
        min_fresh_s=_asked(asked.get("min-fresh"), otherwise=math.inf),
        ttl_s=ttl_s,
        ignored=(controls.ttl_header,) if controls.ttl_header is not None and ttl is not None and ttl_s is None else (),
    )


def _asked(text: str | None, *, otherwise: float) -> float | None:
    if text is None:
        return None
    seconds = _seconds(text)
    return otherwise if seconds is None else seconds


def _seconds(text: str) -> int | None:
    """RFC 9111, 1.2.2: digits and nothing else; None for what is no number of seconds."""
    if not (text.isascii() and text.isdigit()):
        return None
    # Python refuses to read thousands of digits.
    digits = text.lstrip("0") or "0"
    return _SECONDS_MAX if len(digits) > len(str(_SECONDS_MAX)) else min(int(digits), _SECONDS_MAX)
