"""Reads a YAML or JSON file as plain values, and remembers on which line each of them stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ai_cache_extproc.config.section import Location, refusal
from ai_cache_extproc.errors import ConfigError

DOCUMENT_BYTES_MAX = 1024 * 1024

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_KEY_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"})


class _Loader(yaml.SafeLoader):
    """The safe loader, without dates: nothing in a configuration is one, and text that looks like one is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the shape that PyYAML asks for
        first: [resolver for resolver in resolvers if resolver[0] != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True, slots=True)
class Document:
    """A file's settings. values: what it holds, empty for an empty file."""

    name: str
    values: dict[str, object]
    root: yaml.Node | None

    def source_of(self, location: Location) -> str:
        """`FILE:LINE` of a setting, of the nearest one around it where it is absent, or `FILE`."""
        line = _line_of(self.root, location)
        return self.name if line is None else f"{self.name}:{line}"


def read_document(path: Path) -> Document:
    """Read a file: JSON by its suffix, YAML otherwise. Raises ConfigError, or ConfigFaults for repeated keys."""
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError("", f"cannot be read: {error.strerror}; name a file that exists", source=name) from error
    if len(content) > DOCUMENT_BYTES_MAX:
        raise ConfigError("", f"is larger than {DOCUMENT_BYTES_MAX} bytes; is it a configuration?", source=name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("", "is not UTF-8; save it in that encoding", source=f"{name}:{line}") from None
    try:
        value, root = (_read_json if path.suffix == ".json" else _read_yaml)(text, name)
    except RecursionError:
        raise ConfigError("", "is nested too deep; no setting is", source=name) from None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ConfigError("", "must be a mapping of settings (`listen: ...`)", source=f"{name}:1")
    return Document(name, value, root)


def _read_yaml(text: str, name: str) -> tuple[object, yaml.Node | None]:
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        _check(loader, root, name)
        value: object = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        source = name if mark is None else f"{name}:{mark.line + 1}"
        raise ConfigError("", f"is not YAML: {_problem(error)}", source=source) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError("", f"is not YAML: {error.reason}", source=f"{name}:{line}") from None
    except ValueError:
        raise ConfigError("", "is not YAML: a number cannot be read; put quotes around text", source=name) from None
    return value, root


def _problem(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without the line itself: it may hold a secret."""
    problem = ", ".join(part for part in (error.context, error.problem) if part)
    if isinstance(error, yaml.composer.ComposerError):
        # It quotes the name of an alias, which may be a secret that begins with a star.
        problem = problem.partition(" '")[0]
    if "alias" in problem:
        problem += "; put quotes around a value that begins with *"
    return problem


def _read_json(text: str, name: str) -> tuple[object, yaml.Node | None]:
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                repeated.append(key)
            seen.add(key)
        return dict(pairs)

    try:
        value: object = json.loads(text, object_pairs_hook=collect)
    except json.JSONDecodeError as error:
        raise ConfigError("", f"is not JSON: {error.msg}", source=f"{name}:{error.lineno}") from None
    except ValueError:
        raise ConfigError("", "is not JSON: a number has too many digits", source=name) from None
    # JSON is YAML but for tabs between tokens. Where the two disagree on more, lines are not known.
    try:
        loader = _Loader(text.replace("\t", " "))
        root = loader.get_single_node()
    except yaml.YAMLError:
        if repeated:
            reason = "is given twice; keep one of them"
            raise refusal(tuple(ConfigError(key, reason, source=name) for key in repeated)) from None
        return value, None
    _check(loader, root, name)
    return value, root


def _check(loader: _Loader, root: yaml.Node | None, name: str) -> None:
    if faults := tuple(_node_faults(loader, root, name)):
        raise refusal(faults)


def _node_faults(loader: _Loader, root: yaml.Node | None, name: str) -> Iterator[ConfigError]:
    """Repeated keys, and tags: what `!!` makes of a value is never what a setting needs."""
    todo: list[tuple[str, yaml.Node]] = [] if root is None else [("", root)]
    # An alias is the same node again, and may even stand inside itself.
    seen: set[int] = set()
    while todo:
        path, node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag != _implied_tag(loader, node):
            source = f"{name}:{node.start_mark.line + 1}"
            yield ConfigError(path, "has a tag (`!...`); leave it out", source=source)
        elif isinstance(node, yaml.SequenceNode):
            todo += reversed([(f"{path}[{index}]", child) for index, child in enumerate(node.value)])
        elif isinstance(node, yaml.MappingNode):
            yield from _key_faults(node, path, name)
            todo += reversed([(_joined(path, str(key.value)), child) for key, child in node.value])


def _implied_tag(loader: _Loader, node: yaml.Node) -> str:
    """The tag that a node without one gets."""
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    implied: str = loader.resolve(type(node), node.value, (plain, not plain))  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
    return implied


def _key_faults(node: yaml.MappingNode, path: str, name: str) -> Iterator[ConfigError]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        spelled = key.value if isinstance(key, yaml.ScalarNode) else "?"
        line = key.start_mark.line + 1
        where = _joined(path, spelled)
        if key.tag not in _KEY_TAGS:
            yield ConfigError(where, "is a key that is not text; put quotes around it", source=f"{name}:{line}")
        elif spelled in first:
            reason = f"is given twice, first on line {first[spelled]}; keep one of them"
            yield ConfigError(where, reason, source=f"{name}:{line}")
        first.setdefault(spelled, line)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _line_of(root: yaml.Node | None, location: Location) -> int | None:
    node, line = root, None
    for step in location:
        if isinstance(node, yaml.MappingNode):
            # A merged mapping (`<<`) stands before the keys that override it.
            found = [(key, child) for key, child in node.value if getattr(key, "value", None) == step]
            if not found:
                break
            key, node = found[-1]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line
