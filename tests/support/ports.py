"""Which TCP ports of loopback this process of the tests may take."""

from __future__ import annotations

import os


def _of_worker(ports: range) -> range:
    """The share of ports of this worker of pytest-xdist; all where there is none."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    each = len(ports) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return ports[int(worker) * each :][:each]


# Below Linux's range for outgoing connections: none of them takes a port before its listener is there, or while it is
# down. A share for each worker: between the look at a port and its listener another one might take it.
PORTS = _of_worker(range(12_000, 32_000))
