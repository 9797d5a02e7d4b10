"""Runs the commands of a page as a reader would: in order, in one shell, in a copy of what the page names.

Addresses are moved to free ports, in the commands and in the files, and what a page starts with `&` is waited for.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.gateway import ROOT, START_S_MAX, envoy_binary, free_port

COPIED = ("envoy", "examples", "deploy")
PORTS = (10000, 9901, 9902, 18081, 50051, 6379)
"""Those of the shipped files and of the pages; each becomes a free one."""
_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PORT = re.compile(
    rf"((?:port_value|servicePort\"?|redis_port\"?|--port)[: ]+|127\.0\.0\.1:|localhost:)({'|'.join(map(str, PORTS))})\b"
)
_READY = {
    "demo_upstream": (18081, "/healthz", ""),
    "aicache serve": (9901, "/readyz", ""),
    "envoy -c": (9902, "/stats?filter=cluster.ai_cache.membership_healthy$", "membership_healthy: 1"),
}
"""By what a block starts: where it says that it is ready."""
_TEXT = {".yaml", ".json", ".py", ".md"}


def blocks(page: Path) -> tuple[str, ...]:
    """The blocks of commands on a page of this repository."""
    return tuple(_BLOCK.findall(page.read_text()))


class Reader:
    """Someone who follows a page; a context manager. ports: where what the pages name is, beyond the free ones."""

    def __init__(
        self,
        folder: Path,
        *,
        ports: Mapping[int, int] | None = None,
        aicache: Sequence[str] = (),
        source: bool = True,
    ) -> None:
        """aicache: the command, in place of the module of this repository. source: whether the sources can be imported."""
        self.folder = folder
        self.ports = {port: free_port() for port in PORTS} | dict(ports or {})
        self._source = source
        self._aicache = aicache or (sys.executable, "-m", "ai_cache_extproc")

    def __enter__(self) -> Self:
        for name in COPIED:
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self._move_files()
        (self.folder / "shell.log").touch()
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=self.folder,
            env=self._environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # What it starts in the background ends with its group.
            start_new_session=True,
        )
        self._say(self._words())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._shell.pid, signal.SIGTERM)
        self._shell.communicate()

    def follow(self, page: Path) -> list[str]:
        """Run every block; what each of them printed. Fails where one does."""
        return [self.run(block) for block in blocks(page)]

    def run(self, block: str) -> str:
        """What the commands of one block printed."""
        self._say(f'{self._moved(block)}\nended=$?; echo; echo "{_END} $ended"')
        lines: list[str] = []
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            if line.startswith(_END):
                assert f"{_END} 0\n" == line, f"{block}\n{''.join(lines)}\n{self._background()}"
                self._move_files()
                self._wait_for(block)
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"the shell ended: {block}\n{''.join(lines)}")

    def _say(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{text}\n")
        self._shell.stdin.flush()

    def _environ(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AICACHE_")}
        return {
            **ours,
            "AICACHE__LISTEN": f"127.0.0.1:{self.ports[50051]}",
            "AICACHE__ADMIN": f"127.0.0.1:{self.ports[9901]}",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self.ports[10000]}/v1",
            "PYTHONPATH": str(ROOT) if self._source else "",
            "XDG_STATE_HOME": str(self.folder / "state"),
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    def _words(self) -> str:
        """The commands that a page takes for granted; those that it starts in the background write into a file."""
        redis = "import redis, sys; print(redis.Redis(port=%d, decode_responses=True).execute_command(*sys.argv[1:]))"
        # It thinks for a moment only: what pages say of its 0.8 seconds is the demo's business.
        upstream = (
            "from ai_cache_extproc.cli import demo_upstream as upstream; upstream.DELAY_S = 0.05; "
            f'upstream.FIRST_WORD_S = 0.02; upstream.main("127.0.0.1:{self.ports[18081]}")'
        )
        aicache = " ".join(f'"{word}"' for word in self._aicache)
        return f"""
set -o pipefail
pip() {{ echo "pip $*"; }}
python() {{
  if [[ $* == *demo_upstream* ]]; then PYTHONPATH={ROOT} "{sys.executable}" -c '{upstream}' >> shell.log 2>&1
  else "{sys.executable}" "$@"; fi
}}
aicache() {{ case $1 in
    serve) {aicache} "$@" >> shell.log 2>&1 ;;
    stats) {aicache} "$@" --admin 127.0.0.1:{self.ports[9901]} ;;
    *) {aicache} "$@" ;;
  esac; }}
envoy() {{ "{envoy_binary()}" "$@" --concurrency 1 --disable-hot-restart >> shell.log 2>&1; }}
redis-cli() {{ "{sys.executable}" -c '{redis % self.ports[6379]}' "$@"; }}
"""

    def _moved(self, text: str) -> str:
        return _PORT.sub(lambda found: found[1] + str(self.ports[int(found[2])]), text)

    def _move_files(self) -> None:
        """Also in what a command has written; a port that was moved is none of those that are."""
        for path in self.folder.rglob("*"):
            if path.suffix in _TEXT and path.is_file() and (moved := self._moved(path.read_text())) != path.read_text():
                path.write_text(moved)

    def _wait_for(self, block: str) -> None:
        for started, (port, path, expected) in _READY.items():
            if started in block and re.search(r"&\s*$", block, re.MULTILINE):
                self._wait(f"http://127.0.0.1:{self.ports[port]}{path}", expected)

    def _wait(self, url: str, expected: str) -> None:
        give_up = time.monotonic() + START_S_MAX
        while time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(url, timeout=2) as response:
                    if expected in response.read().decode():
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready: {url}\n{self._background()}")

    def _background(self) -> str:
        return (self.folder / "shell.log").read_text()[-4000:]


_END = "--- the end of a block:"
