"""Envoy's own messages, as envoy-data-plane generates them from the full protos: the second opinion on our bytes.

Nothing here is told which fields ours have; `content_of_full` is led by our descriptors and reads only those.
"""

from __future__ import annotations

import datetime as dt
import importlib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import cast

import betterproto2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import strategies as st

PROTO = Path(__file__).parents[2] / "proto" / "ext_proc.proto"

SCALARS: Mapping[str, st.SearchStrategy[object]] = {
    betterproto2.TYPE_STRING: st.text(max_size=12),
    betterproto2.TYPE_BYTES: st.binary(max_size=24),
    betterproto2.TYPE_BOOL: st.booleans(),
    betterproto2.TYPE_UINT32: st.integers(0, 2**32 - 1),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@cache
def full_class(name: str) -> type[betterproto2.Message]:
    """The full message of this name (`envoy.service.ext_proc.v3.HttpBody`)."""
    package, _, message = name.rpartition(".")
    with warnings.catch_warnings():
        # Importing envoy-data-plane warns about how it uses pydantic.
        warnings.simplefilter("ignore", DeprecationWarning)
        module = importlib.import_module(f"envoy_data_plane.{package}")
    return cast("type[betterproto2.Message]", getattr(module, message))


def make(name: str, **fields: object) -> betterproto2.Message:
    """A full message with these fields."""
    return cast("Callable[..., betterproto2.Message]", full_class(name))(**fields)


def originals() -> dict[str, str]:
    """Our top-level messages and enums, each with the original that the comment above it names."""
    found = re.findall(r"^// ([\w.]+)[^\n]*\n(?:message|enum) (\w+)", PROTO.read_text(), flags=re.MULTILINE)
    return {ours: original for original, ours in found}


FULL_STRUCT = full_class("google.protobuf.Struct")


def meta_of(owner: type[betterproto2.Message]) -> betterproto2.ProtoClassMetadata:
    """What betterproto2 knows of a class: its fields' numbers, types and oneofs."""
    return cast("betterproto2.ProtoClassMetadata", vars(betterproto2.Message)["_betterproto"].__get__(None, owner))


def field_class(owner: type[betterproto2.Message], field: str) -> type:
    """The class of a message or enum field; for a map that of its values."""
    classes = meta_of(owner).cls_by_field
    return classes[f"{field}.value"] if f"{field}.value" in classes else classes[field]


@cache
def full(owner: type[betterproto2.Message]) -> st.SearchStrategy[betterproto2.Message]:
    """Any message of this class, with any of its fields set: also those that ours do not know."""
    if owner is FULL_STRUCT:
        return st.dictionaries(st.text(max_size=8), JSON, max_size=3).map(owner.from_dict)
    fields: dict[str, st.SearchStrategy[object]] = {}
    oneofs: dict[str, list[st.SearchStrategy[dict[str, object]]]] = {}
    for name, meta in meta_of(owner).meta_by_field_name.items():
        values = _values(owner, name, meta)
        if values is None:
            continue
        if meta.group is None:
            fields[name] = values
        else:
            oneofs.setdefault(meta.group, [st.just({})]).append(st.fixed_dictionaries({name: values}))
    free = st.fixed_dictionaries({}, optional=fields)
    members = st.tuples(*(st.one_of(group) for group in oneofs.values()))
    return st.builds(lambda alone, chosen: owner(**reduce(or_, chosen, alone)), free, members)


def _values(
    owner: type[betterproto2.Message], name: str, meta: betterproto2.FieldMetadata
) -> st.SearchStrategy[object] | None:
    kind = field_class(owner, name)
    if meta.map_meta is not None:
        return st.dictionaries(st.text(max_size=8), full(kind), max_size=2) if _plain(kind) else None
    single: st.SearchStrategy[object]
    if meta.unwrap is not None:
        wrapped = {"Duration": st.integers(0, 10**7).map(lambda ms: dt.timedelta(milliseconds=ms))}
        single = wrapped.get(meta.unwrap().__name__, st.booleans())
    elif meta.proto_type == betterproto2.TYPE_MESSAGE:
        single = full(kind)
    elif meta.proto_type == betterproto2.TYPE_ENUM:
        single = st.sampled_from(list(cast("Iterable[object]", kind)))
    else:
        single = SCALARS[meta.proto_type]
    return st.lists(single, max_size=4) if meta.repeated else single


def _plain(kind: type) -> bool:
    # `Any` holds a type name that must resolve; metadata_context has a map of them.
    return kind.__name__ != "Any"


def content_of_trimmed(message: Message) -> dict[str, object]:
    """What one of our messages holds, without the fields that are absent or zero."""
    return {field.name: _trimmed_value(field, value) for field, value in message.ListFields()}


def _trimmed_value(field: FieldDescriptor, value: object) -> object:
    if _is_map(field):
        return {key: MessageToDict(entry) for key, entry in cast("Mapping[str, Struct]", value).items()}
    if field.is_repeated:
        return [_trimmed_single(single) for single in cast("Iterable[object]", value)]
    return _trimmed_single(value)


def _trimmed_single(value: object) -> object:
    match value:
        case Struct():
            return MessageToDict(value)
        case Duration():
            return value.ToTimedelta()
        case Message():
            return content_of_trimmed(value)
        case _:
            return value


def content_of_full(message: betterproto2.Message, ours: Descriptor) -> dict[str, object]:
    """The same for one of theirs, as far as ours have its fields."""
    content: dict[str, object] = {}
    for field in ours.fields:
        value = getattr(message, field.name)
        present = value is not None if field.has_presence else bool(value)
        if present:
            content[field.name] = _full_value(field, value)
    return content


def _full_value(field: FieldDescriptor, value: object) -> object:
    if _is_map(field):
        return {key: struct.to_dict() for key, struct in cast("Mapping[str, betterproto2.Message]", value).items()}
    if field.is_repeated:
        return [_full_single(field, single) for single in cast("Iterable[object]", value)]
    return _full_single(field, value)


def _full_single(field: FieldDescriptor, value: object) -> object:
    if isinstance(value, FULL_STRUCT):
        return value.to_dict()
    if isinstance(value, betterproto2.Message):
        assert field.message_type is not None
        return content_of_full(value, field.message_type)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
