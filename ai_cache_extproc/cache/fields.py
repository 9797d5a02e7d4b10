"""The few HTTP fields that decide caching, read once for requests and answers alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def media_type(headers: Mapping[str, str]) -> str:
    """The content type in lower case without its parameters; empty where there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def length_of(headers: Mapping[str, str]) -> int | None:
    """The declared content length; None where it is absent or not a number."""
    text = headers.get("content-length", "")
    # No length has 19 digits, and Python refuses to read thousands.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def directives(cache_control: str) -> dict[str, str]:
    """`Cache-Control` as names in lower case and values without quotes; a bare name has an empty value (RFC 9111, 5.2).

    Of a name that stands there twice the first counts (RFC 9111, 4.2.1).
    """
    found: dict[str, str] = {}
    if not cache_control:
        return found
    for part in cache_control.split(","):
        name, _, value = part.partition("=")
        if name := name.strip().lower():
            found.setdefault(name, value.strip().strip('"'))
    return found
