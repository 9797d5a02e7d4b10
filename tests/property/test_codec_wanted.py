"""Attributes and metadata as Envoy's own messages carry them: what the rules want is read, and nothing else."""

from __future__ import annotations

import betterproto2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_cache_extproc.extproc.codec import decode
from ai_cache_extproc.extproc.events import RequestHeaders
from ai_cache_extproc.model import RequestHead, Wanted
from tests.property.envoy_messages import JSON, full_class, make

# Some of Envoy's fields are deprecated, and setting them says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

KEYS = st.sampled_from(["a", "b", "jwt", ""])
NAMESPACES = st.dictionaries(st.sampled_from(["n", "m"]), st.dictionaries(KEYS, JSON, max_size=3), max_size=2)
ATTRIBUTES = st.dictionaries(KEYS, JSON, max_size=3)
PATHS = st.lists(
    st.tuples(st.sampled_from(["n", "m", "absent"]), st.lists(KEYS, min_size=1, max_size=3)).map(
        lambda place: (place[0], *place[1])
    ),
    max_size=3,
    unique=True,
)


def message(attributes: dict[str, object], metadata: dict[str, dict[str, object]]) -> betterproto2.Message:
    """Request headers with these attributes and this metadata."""
    struct = full_class("google.protobuf.Struct")
    return make(
        "envoy.service.ext_proc.v3.ProcessingRequest",
        request_headers=make("envoy.service.ext_proc.v3.HttpHeaders"),
        attributes={"envoy.filters.http.ext_proc": struct.from_dict(attributes)},
        metadata_context=make(
            "envoy.config.core.v3.Metadata",
            filter_metadata={namespace: struct.from_dict(fields) for namespace, fields in metadata.items()},
        ),
    )


def head_of(sent: betterproto2.Message, wanted: Wanted) -> RequestHead:
    """What is read."""
    event = decode(bytes(sent), wanted)
    assert isinstance(event, RequestHeaders)
    return event.head


def at(metadata: object, path: tuple[str, ...]) -> object:
    """What stands at a path; None where nothing does."""
    for key in path:
        metadata = metadata.get(key) if isinstance(metadata, dict) else None
    return metadata


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(NAMESPACES, PATHS)
def test_metadata_is_read_where_it_is_wanted(
    metadata: dict[str, dict[str, object]], paths: list[tuple[str, ...]]
) -> None:
    """At every wanted path stands what Envoy sent there, and no namespace that is not wanted."""
    read = head_of(message({}, metadata), Wanted(metadata=tuple(paths))).metadata
    for path in paths:
        assert at(metadata, path) == at(read, path)
    assert set(read) <= {namespace for namespace, *_ in paths}
    assert {} == head_of(message({}, metadata), Wanted(attributes=("a",))).metadata


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(ATTRIBUTES, st.lists(KEYS, unique=True))
def test_attributes_are_read_where_they_are_wanted(attributes: dict[str, object], names: list[str]) -> None:
    """Text as it is, numbers and switches as text; whatever is none of these is no attribute."""
    read = head_of(message(attributes, {}), Wanted(attributes=tuple(names))).attributes
    plain = {name: value for name, value in attributes.items() if isinstance(value, str | bool | float | int)}
    assert set(names) & set(plain) == set(read)
    for name, text in read.items():
        value = plain[name]
        match value:
            case str():
                assert value == text
            case bool():
                assert str(value).lower() == text
            case _:
                assert value == float(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(443, "443"), (-1.5, "-1.5"), (1e300, str(int(1e300))), (True, "true"), (False, "false"), ("", "")],
    ids=["port", "fraction", "large", "true", "false", "empty"],
)
def test_a_number_is_spelled_as_envoy_means_it(value: object, expected: str) -> None:
    """Ports and counts come as doubles, and are whole numbers."""
    assert {"a": expected} == head_of(message({"a": value}, {}), Wanted(attributes=("a",))).attributes


def test_nothing_is_read_that_nobody_wants() -> None:
    """Neither attributes nor metadata without a rule that asks for them; the route is always read."""
    event = decode(bytes(message({"a": "1", "xds.route_name": "r"}, {"n": {"a": 1}})))
    assert isinstance(event, RequestHeaders)
    assert ({}, {}, "r") == (dict(event.head.attributes), dict(event.head.metadata), event.head.route)


def test_a_wanted_namespace_that_is_absent_is_nothing() -> None:
    """Envoy sends no metadata at all before the filters that write it."""
    sent = make(
        "envoy.service.ext_proc.v3.ProcessingRequest", request_headers=make("envoy.service.ext_proc.v3.HttpHeaders")
    )
    head = head_of(sent, Wanted(("source.address",), (("n", "a"),)))
    assert ({}, {}) == (head.attributes, head.metadata)
