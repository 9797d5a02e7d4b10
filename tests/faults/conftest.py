"""The gateway of a fault test is its own: what it breaks nobody else uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Envoy, the sidecar and an upstream."""
    with Gateway(tmp_path) as running:
        yield running
