"""What a section of a configuration says, for tests to compare."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr


def clear(section: Any) -> dict[str, Any]:
    """The fields that were set, secrets in clear."""
    values = {name: getattr(section, name) for name in section.model_fields_set}
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()}
