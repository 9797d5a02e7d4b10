"""One file for each mistake one can make; what it must be told stands in its first lines (`# error: LINE: TEXT`)."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from ai_cache_extproc.config.faults import faults_of
from ai_cache_extproc.config.load import load
from ai_cache_extproc.errors import ConfigError, ConfigFaults

FOLDER = Path(__file__).parent / "config_faults"
MISTAKES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def expected_of(name: str) -> list[str]:
    """The errors that the file itself announces, as they must be printed."""
    path = FOLDER / name
    announced = [
        line.removeprefix("# error: ") for line in path.read_text().splitlines() if line.startswith("# error: ")
    ]
    return [f"{path}:{text}" if text.split(":")[0].isdigit() else f"{path}: {text}" for text in announced]


def faults_in(path: Path, **environ: str) -> list[str]:
    """What `load` says of a file, line by line."""
    with pytest.raises((ConfigError, ConfigFaults)) as caught:
        load(path, environ=environ)
    assert isinstance(caught.value, ConfigError | ConfigFaults)
    assert str(caught.value) == "\n".join(map(str, caught.value.faults))
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_named_with_its_line_and_the_way_out(name: str) -> None:
    """A mistake gives exactly the announced errors."""
    assert expected_of(name) == faults_in(FOLDER / name)


@pytest.mark.parametrize("name", MISTAKES)
def test_no_error_shows_what_may_be_a_secret(name: str) -> None:
    """Neither a key nor the pattern of a credential is quoted, wherever it was put."""
    shown = "\n".join(faults_in(FOLDER / name))
    assert "canary" not in shown
    assert "31337" not in shown


def test_an_absent_file_is_named() -> None:
    """A path that leads nowhere is the fault, not the content."""
    path = Path("/nonexistent/aicache.yaml")
    expected = f"{path}: cannot be read: No such file or directory; name a file that exists"
    assert [expected] == faults_in(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """A log or a database given by mistake is refused by its size."""
    path = tmp_path / "aicache.yaml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    assert [f"{path}: is larger than 1048576 bytes; is it a configuration?"] == faults_in(path)


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    """The line of the first byte that is not UTF-8 is given."""
    path = tmp_path / "aicache.yaml"
    path.write_bytes(b"log: {}\n# gr\xf6\xdfe\n")
    assert [f"{path}:2: is not UTF-8; save it in that encoding"] == faults_in(path)


def test_a_document_nested_beyond_reason_is_refused(tmp_path: Path) -> None:
    """Ten thousand brackets are a fault like any other, in YAML and in JSON."""
    for suffix in ("yaml", "json"):
        path = tmp_path / f"aicache.{suffix}"
        path.write_text("[" * 10_000)
        assert [f"{path}: is nested too deep; no setting is"] == faults_in(path)


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    """An error stays one readable line."""
    path = tmp_path / "aicache.yaml"
    path.write_text(f"log:\n  level: {'x' * 100}\n")
    assert [f"{path}:2: log.level: must be 'debug', 'info', 'warning' or 'error', not \"{'x' * 59}..."] == faults_in(
        path
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"lookup":\n\t{"deadline_ms": 0}}', ":2: lookup.deadline_ms: must be at least 1, not 0"),
        ('{"log": {},\n "log": {}}', ":2: log: is given twice, first on line 1; keep one of them"),
        ('{"log": {"level": "\x7f"},\n "log": {}}', ": log: is given twice; keep one of them"),
        ('{"near": {"ttl_s_max": 90}, "key_prefix":\n"\x7f"}', ": near.ttl_s_max: must be at most 60, not 90"),
        ('{"log": {}\n"a": 1}', ":2: is not JSON: Expecting ',' delimiter"),
        ('{"a": ' + "1" * 5000 + "}", ": is not JSON: a number has too many digits"),
        ("[]", ":1: must be a mapping of settings (`listen: ...`)"),
    ],
)
def test_json_is_told_its_faults_too(tmp_path: Path, text: str, expected: str) -> None:
    """A JSON document gets the same errors; where it cannot be read as YAML the line is left out."""
    path = tmp_path / "aicache.json"
    path.write_text(text)
    assert f"{path}{expected}" == faults_in(path)[0]


def test_a_fault_of_the_environment_names_the_variable(tmp_path: Path) -> None:
    """Where a value comes from a variable, its name stands in the place of the line."""
    path = tmp_path / "aicache.yaml"
    path.write_text("lookup:\n  deadline_ms: 40\n")
    expected = 'AICACHE__LOOKUP__DEADLINE_MS: lookup.deadline_ms: must be at least 1, not "0"'
    assert [expected] == faults_in(path, AICACHE__LOOKUP__DEADLINE_MS="0")


def test_a_fault_without_words_of_ours_is_told_in_pydantics() -> None:
    """Nothing that is refused goes unexplained."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(date).validate_python("tomorrow")
    (fault,) = faults_of(caught.value, lambda _: "here:1")
    assert str(fault).startswith("here:1: Input should be a valid date")
