"""What there is to say about a foreign document that loads: keys without effect, values that are not used as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import get_args

from ai_cache_extproc.config.fields import dotted
from ai_cache_extproc.config.higress_document import Part
from ai_cache_extproc.config.section import Location


@dataclass(frozen=True, slots=True)
class Note:
    """Something that holds otherwise than the document reads.

    location: in their document, empty for the whole of it. fix: what changes it, may be empty. source: `FILE:LINE`.
    """

    location: Location
    text: str
    fix: str = ""
    source: str | None = None

    @property
    def path(self) -> str:
        """The location in their words, on one line: a key may be any text."""
        return "".join(character if character.isprintable() else "?" for character in dotted(self.location))

    def __str__(self) -> str:
        """One line."""
        told = f"{self.text}; {self.fix}" if self.fix else self.text
        return ": ".join(part for part in (self.source, self.path, told) if part)


def without_nulls(values: Mapping[str, object], part: type[Part]) -> dict[str, object]:
    """The values as the plugin reads them: a key that is null is absent. Goes no deeper than the document's own parts."""
    result: dict[str, object] = {}
    for key, value in values.items():
        inner = part_of(part, key)
        if value is None:
            continue
        if inner is not None and isinstance(value, dict):
            result[key] = without_nulls(value, inner)
        elif inner is not None and isinstance(value, list):
            result[key] = [without_nulls(each, inner) if isinstance(each, dict) else each for each in value]
        else:
            result[key] = value
    return result


def unknown_keys(values: Mapping[str, object], part: type[Part], location: Location) -> Iterator[Note]:
    """A note for each key that neither the plugin nor we read. values: as `without_nulls` gives them."""
    for key, value in values.items():
        inner = part_of(part, key)
        where = (*location, key)
        if key not in part.model_fields:
            if not part.foreign:
                yield Note(where, "is a key that the plugin ignores, and so do we", _meant(key, part))
        elif inner is not None and isinstance(value, dict):
            yield from unknown_keys(value, inner, where)
        elif inner is not None and isinstance(value, list):
            for index, each in enumerate(value):
                if isinstance(each, dict):
                    yield from unknown_keys(each, inner, (*where, index))


def part_of(part: type[Part], key: str) -> type[Part] | None:
    """The part that stands in this field, or in its list; None for plain values and unknown keys."""
    field = part.model_fields.get(key)
    return None if field is None else next(_parts(field.annotation), None)


def _parts(annotation: object) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _meant(key: str, part: type[Part]) -> str:
    known = {name.lower(): name for name in part.model_fields}
    close = get_close_matches(key.lower(), known, n=1)
    return f'did you mean "{known[close[0]]}"?' if close else ""
