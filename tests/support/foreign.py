"""A gateway whose sidecar runs a document of another program, with everything of ours beside it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.support.gateway import SIDECAR, Gateway, Node, Process


class Foreign(Gateway):
    """Writes the document as it is, and starts the sidecar with it."""

    def __init__(
        self,
        folder: Path,
        text: str,
        arguments: Sequence[str] = (),
        *,
        environ: Mapping[str, str] = MappingProxyType({}),
        filter_says: Node | None = None,
    ) -> None:
        super().__init__(folder, filter_says=filter_says)
        self._text = text
        self._arguments = arguments
        self._environ = environ

    def start_sidecar(self) -> None:
        """As in Gateway."""
        self.config.write_text(self._text)
        own = ["--listen", f"127.0.0.1:{self.sidecar_ports[0]}", "--admin", f"127.0.0.1:{self.sidecar_admin}"]
        command = [sys.executable, "-m", SIDECAR, "serve", "--config", str(self.config), *own, *self._arguments]
        self.sidecar = Process(command, self.folder / "sidecar.log", environ=self._environ)
        self.sidecar.wait_ready(f"http://127.0.0.1:{self.sidecar_admin}/readyz")
