"""Every secret of the document is one that nothing shows, and may stand in a file of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ai_cache_extproc.config.load import json_schema, load, redacted
from ai_cache_extproc.errors import ConfigError

LIKE_A_SECRET = re.compile(r"(^|_)(password|passwd|secret|token|api_key|authorization|credential)$|^key$")
NO_SECRETS = {
    # The name of an answer's header.
    ("Labels", "key"),
}


def settings() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every setting of every section, with the settings beside it."""
    for section, schema in json_schema()["$defs"].items():  # type: ignore[attr-defined]  # parsed JSON
        for name in schema.get("properties", {}):
            yield section, name, schema["properties"]


def kinds(field: Mapping[str, Any]) -> set[str]:
    """What may stand in a setting: formats, or types where there is no format."""
    choices = [field, *field.get("anyOf", ())]
    return {choice.get("format") or choice.get("type") for choice in choices} - {None}


def test_what_is_called_like_a_secret_is_one() -> None:
    """No password is plain text by mistake: it would stand in `/config`, in errors and in logs."""
    plain = [
        (section, name)
        for section, name, beside in settings()
        if LIKE_A_SECRET.search(name) and "string" in kinds(beside[name]) and (section, name) not in NO_SECRETS
    ]
    assert [] == plain


def test_every_secret_may_stand_in_a_file() -> None:
    """`NAME_file` beside each secret `NAME`; there are secrets, or this would say nothing."""
    secrets = [(section, name, beside) for section, name, beside in settings() if "password" in kinds(beside[name])]
    assert {"RedisStore", "Sentinel", "EncryptionKey", "IdentityKey", "Tracing"} <= {
        section for section, _, _ in secrets
    }
    without = [
        (section, name) for section, name, beside in secrets if "path" not in kinds(beside.get(f"{name}_file", {}))
    ]
    assert [] == without


def test_the_header_for_the_collector_is_read_from_its_file(tmp_path: Path) -> None:
    """Blanks around it are no part of it, and nothing shows it."""
    file, document = tmp_path / "header", tmp_path / "aicache.yaml"
    file.write_text("Bearer canary \n")
    document.write_text(f"tracing: {{endpoint: 'http://collector.test:4318/', authorization_file: {file}}}\n")
    config = load(document, environ={}).config
    assert {"authorization": "Bearer canary"} == config.tracing.headers
    assert "http://collector.test:4318/v1/traces" == config.tracing.url
    assert "canary" not in repr(config)
    assert "canary" not in str(redacted(config))


@pytest.mark.parametrize("content", ["", "\n", "Bearer canary\nx-canary: 1", "Bearer caf\u00e9 canary"])
def test_a_file_that_holds_no_header_is_refused(tmp_path: Path, content: str) -> None:
    """Nothing of it is quoted."""
    file, document = tmp_path / "header", tmp_path / "aicache.yaml"
    file.write_text(content)
    document.write_text(f"tracing: {{authorization_file: {file}}}\n")
    with pytest.raises(ConfigError, match=r"tracing\.authorization_file: .* is no value of a header") as caught:
        load(document, environ={})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
        (None, None),
    ],
)
def test_batches_go_to_the_usual_path_unless_another_is_named(
    tmp_path: Path, endpoint: str | None, url: str | None
) -> None:
    """As every collector has it; without an endpoint there are no spans."""
    environ = {} if endpoint is None else {"AICACHE__TRACING__ENDPOINT": endpoint}
    tracing = load(None, environ=environ).config.tracing
    assert (url, {}) == (tracing.url, tracing.headers)
