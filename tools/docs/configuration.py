"""`docs/configuration.md` and its JSON Schema, from the fields of `config/model.py` and their docstrings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ai_cache_extproc.config.load import EMBEDDED, json_schema
from tools.docs.tables import GENERATED, code, table

# Parsed JSON: what a key holds depends on the other keys.
Schema = Mapping[str, Any]

HEAD = ("setting", "type", "default", "allowed", "meaning")
MIB = 1024 * 1024
UNITS = {"_ms": "milliseconds", "_s": "seconds", "bytes": "bytes"}
BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))

INTRODUCTION = f"""{GENERATED}

# Configuration

One YAML or JSON document, given to `aicache serve --config FILE`. Unknown keys, keys given twice and values out of
range are refused, with the line and the path of the field. `aicache check FILE` prints the effective plan without
touching the network; [`configuration.schema.json`](configuration.schema.json) is for editors.

A flag of the command line wins over the environment, the environment over the file. Every setting that is reached
without an entry of a list has a variable, named after its path: `store.path` is `AICACHE__STORE__PATH`,
`lookup.deadline_ms` is `AICACHE__LOOKUP__DEADLINE_MS`.

A changed file is read again by itself, and on SIGHUP. A document that would be refused at start is refused then too,
is counted in `aicache_config_reloads_total`, and the last good one stays in effect.

Without a document, or with an empty one (`{{}}`), this holds:

```yaml
{{embedded}}```

A document that says anything at all starts from the defaults in the tables below.
"""


def schema() -> str:
    """The JSON Schema as a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def page() -> str:
    """The whole page."""
    root = json_schema()
    embedded = yaml.safe_dump(_plain(EMBEDDED), sort_keys=False)
    parts = [INTRODUCTION.replace("{embedded}", embedded)]
    parts.extend(_section("", root, root))
    return "\n".join(parts)


def _section(path: str, section: Schema, root: Schema) -> Iterator[str]:
    """One heading with its table, then the sections inside it."""
    title = f"`{path}`" if path else "The document"
    chosen = section["properties"].get("type", {}).get("const")
    if chosen:
        title += f" with `type: {chosen}`"
    yield f"## {title}\n"
    if path:
        yield f"{section['description']}\n"
    fields: Schema = section["properties"]
    yield table(HEAD, (_row(name, field, path) for name, field in fields.items())) + "\n"
    for name, field in fields.items():
        for inner, suffix in _inner(field, root):
            yield from _section(f"{path}.{name}{suffix}".lstrip("."), inner, root)


def _inner(field: Schema, root: Schema) -> Iterator[tuple[Schema, str]]:
    """The sections that may stand in this field, and what stands after its name there."""
    if "$ref" in field:
        yield root["$defs"][field["$ref"].rpartition("/")[2]], ""
    for choice in (*field.get("oneOf", ()), *field.get("anyOf", ())):
        yield from _inner(choice, root)
    if isinstance(items := field.get("items"), dict):
        for inner, suffix in _inner(items, root):
            yield inner, f"[]{suffix}"


def _row(name: str, field: Schema, path: str) -> tuple[str, ...]:
    full = f"{path}.{name}" if path else name
    type_ = _type(field)
    default = "" if _is_section(field) or "const" in field else code(_default(name, field))
    return code(name), type_, default, _allowed(name, field), field.get("description") or _see(full, type_)


def _see(path: str, type_: str) -> str:
    return f"See `{path}` below." if type_ == "section" else ""


def _is_section(field: Schema) -> bool:
    return "$ref" in field or "oneOf" in field or "$ref" in (field.get("items") or {})


def _type(field: Schema) -> str:
    if "$ref" in field or "oneOf" in field:
        return "section"
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if field.get("format") in {"path", "password"}:
        return {"path": "path", "password": "secret text"}[field["format"]]
    match field.get("type"):
        case "array":
            inner = _type(field["items"])
            return f"list of {inner}s" if inner == "section" else f"list of {inner}"
        case "object":
            values = field["additionalProperties"]
            return "mapping" if isinstance(values, bool) else f"mapping of text to {_type(values)}"
        case "string":
            return "text"
        case other:
            return str(other)


def _default(name: str, field: Schema) -> str:
    if "default" not in field:
        return "{}" if field.get("type") == "object" else ""
    value = field["default"]
    if isinstance(value, int) and name.endswith(("bytes", "bytes_max")) and value >= MIB and value % MIB == 0:
        return f"{value} ({value // MIB} MiB)"
    return json.dumps(value, ensure_ascii=False)


def _allowed(name: str, field: Schema) -> str:
    bounds = [
        f"{sign} {field[key]:g}" if field[key] < MIB else f"{sign} {field[key]}" for key, sign in BOUNDS if key in field
    ]
    words = [code(json.dumps(word)) for word in field.get("enum", ())]
    if "const" in field:
        words = [code(json.dumps(field["const"]))]
    if "pattern" in field:
        bounds.append(code(field["pattern"]))
    unit = next((unit for end, unit in UNITS.items() if name.removesuffix("_max").endswith(end)), "")
    return ", ".join(part for part in (unit, " ".join(bounds), " or ".join(words)) if part)


def _plain(value: object) -> object:
    """The same without the read-only wrappers that YAML does not know."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
