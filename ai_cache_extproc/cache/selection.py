"""Which entries an operator means: filters that all have to agree, over what stands in clear. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ai_cache_extproc.model import Alias, Entry, Identity, Layout


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an entry without its answer. scope: the 16 hex digits in its key.

    created_s: of its first capture. purges: as in `Entry`. size_bytes: of the stored value.
    """

    key: str
    id: str
    scope: str
    epoch: int
    dialect: str
    model: str
    rule: str
    tags: tuple[str, ...]
    created_s: float
    expires_s: float
    purges: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters; one that is None or empty agrees with everything. created_before_s, created_after_s: at that moment or beyond.

    foreign: of entries in another program's layout, which have neither model nor rule nor age, and of no others.
    """

    id: str = ""
    scope: str = ""
    model: str | None = None
    rule: str | None = None
    tag: str | None = None
    created_before_s: float | None = None
    created_after_s: float | None = None
    foreign: bool = False

    def names(self, id_: str, scope: str) -> bool:
        """Whether it can mean the entry of this id and scope: what the key alone says."""
        return self.id in ("", id_) and self.scope in ("", scope)

    def holds(self, facts: Facts) -> bool:
        """Whether it means an entry of our own layout."""
        return (
            not self.foreign
            and self.names(facts.id, facts.scope)
            and self.model in (None, facts.model)
            and self.rule in (None, facts.rule)
            and (self.tag is None or self.tag in facts.tags)
            and (self.created_before_s is None or facts.created_s <= self.created_before_s)
            and (self.created_after_s is None or facts.created_s >= self.created_after_s)
        )

    def means(self, identity: Identity, entry: Entry | Alias) -> bool:
        """Whether it means an entry that is at hand."""
        if identity.layout is not Layout.NATIVE:
            return self.foreign and self.id in ("", identity.id)
        return self.holds(facts_of(identity, entry))

    def document(self) -> dict[str, object]:
        """The filters that are set."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", False)}


def facts_of(identity: Identity, entry: Entry | Alias) -> Facts:
    """The facts of an entry at hand, in our own layout."""
    head, scope, _ = identity.key.rsplit(":", 2)
    epoch = head[len(head.rstrip("0123456789")) :]
    return Facts(
        key=identity.key,
        id=identity.id,
        scope=scope,
        epoch=int(epoch or 0),
        dialect=entry.dialect,
        model=entry.model,
        rule=entry.rule,
        tags=entry.tags,
        created_s=entry.created_s,
        expires_s=entry.expires_s,
        purges=entry.purges,
        size_bytes=entry.size_bytes,
    )


def selection_from(document: Mapping[str, object]) -> Selection:
    """The other way of `document`. Raises ValueError for what is none."""
    types = {field.name: _TYPES[field.name] for field in fields(Selection)}
    for name, value in document.items():
        if name not in types or not isinstance(value, types[name]):
            raise ValueError(f"{name!r} is no filter")
    return Selection(**document)  # type: ignore[arg-type]  # checked above


_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "scope", "model", "rule", "tag"), (str,)),
    **dict.fromkeys(("created_before_s", "created_after_s"), (int, float)),
    "foreign": (bool,),
}
