"""Which processing modes an exchange asks of Envoy, given what the operator configured. Pure.

Bodies are asked for one exchange at a time, and never as BUFFERED by override: over its limit Envoy then
leaves the client hanging. A mode that the operator configured is served as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from ai_cache_extproc.extproc.events import BodyMode, ConfiguredModes, Continue, Modes, Part

UNTOUCHED = Continue(Part.REQUEST_HEADERS, modes=Modes())
"""For traffic that is no LLM call: nothing more at all."""

ONLY_LABEL = Continue(Part.REQUEST_HEADERS, modes=Modes(response_headers=True))
"""For an LLM call that is bypassed: its answer's headers will say so."""

ANSWER_UNSEEN = Modes(response_headers=True)
"""At the answer's headers: its body is not ours."""


@cache
def to_read(configured: ConfiguredModes) -> Continue:
    """The reply that asks for the request's body. An answer has to come unencoded to be kept, hence accept-encoding."""
    request_body = configured.request_body or BodyMode.BUFFERED_PARTIAL
    return Continue(
        Part.REQUEST_HEADERS,
        remove_headers=("accept-encoding",),
        modes=Modes(request_body=request_body, response_headers=True, response_body=configured.response_body),
    )


@cache
def to_collect(configured: ConfiguredModes) -> Modes:
    """Asks for the answer's body as it passes; trailers too, because with them no chunk is marked as the last."""
    return Modes(
        request_body=configured.request_body,
        response_headers=True,
        response_body=configured.response_body or BodyMode.STREAMED,
        response_trailers=True,
    )


def is_duplex(configured: ConfiguredModes) -> bool:
    """Whether either body is full-duplex; Envoy then ignores overrides and cannot fail open."""
    return BodyMode.FULL_DUPLEX_STREAMED in (configured.request_body, configured.response_body)


def is_echoed(configured: ConfiguredModes, part: Part) -> bool:
    """Whether chunks of this part have to be given back."""
    mode = configured.request_body if part is Part.REQUEST_BODY else configured.response_body
    return mode is BodyMode.FULL_DUPLEX_STREAMED


def arrives_in_chunks(configured: ConfiguredModes) -> bool:
    """Whether a request body that is not at its end goes on in the next event."""
    return configured.request_body is BodyMode.STREAMED


def faults(configured: ConfiguredModes) -> Iterator[str]:
    """What is wrong with static body modes, one sentence each."""
    for name, mode in (("request", configured.request_body), ("response", configured.response_body)):
        if mode is not BodyMode.NONE:
            yield (
                f"the filter sets {name}_body_mode {mode.name} for every request; "
                "set it to NONE with allow_mode_override: true"
            )
