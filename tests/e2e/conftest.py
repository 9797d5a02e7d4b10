"""One gateway for all tests of a file, so that Envoy starts once for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import Gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Envoy, the sidecar and an upstream that answers chat completions."""
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running
