"""Our trimmed messages against Envoy's full ones: the same fields, the same bytes, the same meaning, both ways."""

from __future__ import annotations

from typing import cast

import betterproto2
import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings

from ai_cache_extproc._generated import ext_proc_pb2 as wire
from ai_cache_extproc.extproc.events import (
    BodyMode,
)
from tests.property.envoy_messages import (
    content_of_full,
    content_of_trimmed,
    field_class,
    full,
    full_class,
    meta_of,
    originals,
)

# Some of Envoy's fields are deprecated, and setting them says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

ORIGINALS = originals()
OUR_MESSAGES = wire.DESCRIPTOR.message_types_by_name
FULL_REQUEST = full_class("envoy.service.ext_proc.v3.ProcessingRequest")
FULL_RESPONSE = full_class("envoy.service.ext_proc.v3.ProcessingResponse")

PROTO_TYPES = {
    FieldDescriptor.TYPE_BOOL: betterproto2.TYPE_BOOL,
    FieldDescriptor.TYPE_BYTES: betterproto2.TYPE_BYTES,
    FieldDescriptor.TYPE_ENUM: betterproto2.TYPE_ENUM,
    FieldDescriptor.TYPE_MESSAGE: betterproto2.TYPE_MESSAGE,
    FieldDescriptor.TYPE_STRING: betterproto2.TYPE_STRING,
}
WELL_KNOWN = {"google.protobuf.Struct", "google.protobuf.Duration"}


def test_every_message_and_enum_names_its_original() -> None:
    """The comment above each one is what the comparisons below go by."""
    assert set(ORIGINALS) == {*OUR_MESSAGES, *wire.DESCRIPTOR.enum_types_by_name}


FIELDS = [field for message in OUR_MESSAGES.values() for field in message.fields]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.full_name)
def test_every_field_is_envoys(field: FieldDescriptor) -> None:
    """Name, number, type, label, oneof and the message or enum it holds are those of the original."""
    assert field.containing_type is not None
    owner = full_class(ORIGINALS[field.containing_type.name])
    meta = meta_of(owner).meta_by_field_name[field.name]
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    assert field.number == meta.number
    assert (field.containing_oneof.name if field.containing_oneof else None) == meta.group
    if is_map:
        assert field.message_type is not None
        key, value = field.message_type.fields
        assert meta.map_meta is not None
        assert [PROTO_TYPES[key.type], PROTO_TYPES[value.type]] == [side.proto_type for side in meta.map_meta]
        assert full_class(_original(value)) is field_class(owner, field.name)
        return
    assert (PROTO_TYPES[field.type], field.is_repeated) == (meta.proto_type, meta.repeated)
    if meta.unwrap is not None:
        assert full_class(_original(field)) is meta.unwrap()
    elif field.message_type is not None:
        assert full_class(_original(field)) is field_class(owner, field.name)
    elif field.enum_type is not None:
        assert _numbers(field.enum_type).items() <= _members(field_class(owner, field.name)).items()


def _original(field: FieldDescriptor) -> str:
    assert field.message_type is not None
    name = field.message_type.full_name
    return name if name in WELL_KNOWN else ORIGINALS[field.message_type.name]


def _numbers(enum: EnumDescriptor) -> dict[str, int]:
    return {name: value.number for name, value in enum.values_by_name.items()}


def _members(enum: type) -> dict[str, int]:
    assert issubclass(enum, betterproto2.Enum)
    return {str(member.name): int(member) for member in enum}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (wire.ProcessingMode.BodySendMode, "envoy.extensions.filters.http.ext_proc.v3.ProcessingModeBodySendMode"),
        (wire.ProcessingMode.HeaderSendMode, "envoy.extensions.filters.http.ext_proc.v3.ProcessingModeHeaderSendMode"),
        (
            wire.HeaderValueOption.HeaderAppendAction,
            "envoy.config.core.v3.HeaderValueOptionHeaderAppendAction",
        ),
    ],
)
def test_every_enum_number_is_envoys(ours: type, theirs: str) -> None:
    """All numbers are there, under the same names."""
    assert _members(full_class(theirs)) == _numbers(ours.DESCRIPTOR)  # type: ignore[attr-defined]  # every enum wrapper has one


def test_the_body_modes_of_events_are_envoys() -> None:
    """The events' own enum has Envoy's numbers; only GRPC, which Envoy has not built, is left out."""
    theirs = _members(full_class("envoy.extensions.filters.http.ext_proc.v3.ProcessingModeBodySendMode"))
    assert theirs == {mode.name: mode.value for mode in BodyMode} | {"GRPC": 5}


def read_both_ways(message: betterproto2.Message, ours: type[Message]) -> None:
    """Their bytes read by ours, ours written again, read by theirs: nothing is lost or changed."""
    descriptor = cast("Descriptor", ours.DESCRIPTOR)
    trimmed = ours.FromString(bytes(message))
    content = content_of_full(message, descriptor)
    assert content == content_of_trimmed(trimmed)
    # Fields that ours do not know travel on unread.
    assert message == type(message).parse(trimmed.SerializeToString())
    # Ours alone, without the unknown fields, are the same content to theirs.
    trimmed.DiscardUnknownFields()
    assert content == content_of_full(type(message).parse(trimmed.SerializeToString()), descriptor)


@given(full(FULL_REQUEST))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_requests_are_read_both_ways(message: betterproto2.Message) -> None:
    """Any ProcessingRequest of Envoy's means the same in our messages, and back."""
    read_both_ways(message, wire.ProcessingRequest)


@given(full(FULL_RESPONSE))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_responses_are_read_both_ways(message: betterproto2.Message) -> None:
    """Any ProcessingResponse of Envoy's means the same in our messages, and back."""
    read_both_ways(message, wire.ProcessingResponse)
