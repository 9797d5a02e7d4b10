"""What every part of the configuration document is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from ai_cache_extproc.errors import ConfigError, ConfigFaults


class Section(BaseModel):
    """A part of the document: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        # A refused value may be a secret in the wrong place.
        hide_input_in_errors=True,
    )


Location = tuple[str | int, ...]
Fault = tuple[Location, str]
"""Where (`("lookup", "deadline_ms")`), and why with the way out."""


class FieldFaults(ValueError):
    """Faults that a validator of a whole section found in its fields; locations are within the section."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{'.'.join(map(str, location))}: {reason}" for location, reason in faults))


class SectionRefused(ValueError):
    """Faults in a section whose fields are known only once the document says what kind it is; locations are within it."""

    def __init__(self, section: type[Section], error: ValidationError) -> None:
        self.section = section
        self.error = error
        super().__init__(f"{error.error_count()} settings are refused")


def refusal(faults: tuple[ConfigError, ...]) -> ConfigError | ConfigFaults:
    """What to raise for these faults, of which there is at least one."""
    return faults[0] if len(faults) == 1 else ConfigFaults(faults)
