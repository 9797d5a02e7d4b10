"""Where the document's fields stand: their names for suggestions, their types, and which hold secrets."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import SecretStr

from ai_cache_extproc.config.model import Config
from ai_cache_extproc.config.section import Location, Section
from ai_cache_extproc.config.stores import PLUGIN_TAG, PluginStore

Sections = tuple[type[Section], ...]
"""The sections that may stand in one place; more than one where a `type` chooses."""


def dotted(location: Location) -> str:
    """The location as the errors write it: `rules[0].match.hosts[1]`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def untagged(location: Location, root: Sections = (Config,)) -> tuple[Location, Sections]:
    """A location as pydantic gives it, without the `type` words between, and the sections that hold its last step."""
    steps: list[str | int] = []
    holders: Sections = ()
    sections = root
    for step in location:
        chosen = tuple(section for section in sections if _type_of(section) == step)
        if chosen:
            sections = chosen
        elif isinstance(step, int):
            steps.append(step)
        elif step != "[key]":
            steps.append(step)
            holders, sections = sections, tuple(_within(sections, step))
    return tuple(steps), holders


def sections_at(location: tuple[str, ...]) -> Sections:
    """The sections at `location`, reached through sections alone, not through lists; none where there are none."""
    sections: Sections = (Config,)
    for step in location:
        annotations = [section.model_fields[step].annotation for section in sections if step in section.model_fields]
        sections = tuple(
            found for annotation in annotations if not _is_list(annotation) for found in _sections(annotation)
        )
    return sections


def field_names(sections: Sections) -> tuple[str, ...]:
    """The names of all fields of these sections, in the order of the document."""
    return tuple(dict.fromkeys(name for section in sections for name in section.model_fields))


def holds_secret(sections: Sections, name: str | int) -> bool:
    """Whether the field, or anything below it, is a secret."""
    return any(_secret(section.model_fields[name].annotation) for section in sections if name in section.model_fields)


def holds_words(annotation: object) -> bool:
    """Whether this is a list of plain words."""
    return get_origin(annotation) is tuple and not any(_sections(annotation))


def advice(location: Location, sections: Sections) -> str:
    """What may have been meant by the unknown last step of `location`, in these sections."""
    known, name = field_names(sections), str(location[-1])
    if close := get_close_matches(name.lower().replace("-", "_"), known, n=1):
        return f'did you mean "{close[0]}"?'
    elsewhere = [other for other in _locations((Config,), ()) if other[-1] == name and other != location]
    # Where a `type` chooses, the key of another kind was meant, not that of another part of the document.
    if elsewhere and not any(map(_type_of, sections)):
        return f'did you mean "{dotted(elsewhere[0])}"?'
    return f"known here: {', '.join(known)}"


def _locations(sections: Sections, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name in field_names(sections):
        yield (*above, name)
        yield from _locations(tuple(_within(sections, name)), (*above, name))


def _within(sections: Sections, name: str) -> Iterator[type[Section]]:
    for section in sections:
        if name in section.model_fields:
            yield from _sections(section.model_fields[name].annotation)


def _sections(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from _sections(argument)


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) not in {None, Annotated, Union, UnionType}


def _secret(annotation: object) -> bool:
    if annotation is SecretStr:
        return True
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return any(_secret(field.annotation) for field in annotation.model_fields.values())
    return any(_secret(argument) for argument in get_args(annotation))


def _type_of(section: type[Section]) -> str | None:
    if section is PluginStore:
        return PLUGIN_TAG
    field = section.model_fields.get("type")
    if field is None or get_origin(field.annotation) is not Literal:
        return None
    word: str = get_args(field.annotation)[0]
    return word
