"""The gateway of a fault test is its own: what it breaks nobody else uses.

Figures that a test has measured are shown at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway

Tell = Callable[..., None]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Envoy, the sidecar and an upstream."""
    with Gateway(tmp_path) as running:
        yield running


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Show figures by name, seconds as seconds."""

    def told(**figures: object) -> None:
        for name, figure in figures.items():
            record_property(name, f"{figure:.4g}" if isinstance(figure, float) else figure)

    return told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured, failed tests included."""
    reports = [report for state in ("passed", "failed") for report in terminalreporter.stats.get(state, ())]
    told = [report for report in reports if report.user_properties]
    if told:
        terminalreporter.section("figures")
    for report in told:
        figures = ", ".join(f"{name}={figure}" for name, figure in report.user_properties)
        terminalreporter.write_line(f"{report.nodeid.removeprefix('tests/faults/')}: {figures}")
