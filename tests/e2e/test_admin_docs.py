"""The calls of `docs/admin.md`, as they stand there, against a sidecar that has something to show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_purge import hit_at
from tests.support.entries import TOKEN
from tests.support.gateway import ROOT, Gateway

PAGE = (ROOT / "docs" / "admin.md").read_text()
CALLS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_calls_of_the_page_work(tmp_path: Path) -> None:
    """Each line answers what the page says, in the page's order: looks, a rehearsal, a purge, a flush."""
    with Gateway(tmp_path, {"admin_access": {"token": TOKEN}}) as gateway:
        id_ = hit_at(gateway, "What is a star?")
        (tmp_path / "token").write_text(TOKEN)
        shell = (
            f'aicache() {{ "{sys.executable}" -m ai_cache_extproc "$@" --admin 127.0.0.1:{gateway.sidecar_admin}; }}\n'
            'curl() { command curl --silent --show-error --fail-with-body "$@"; }\nset -e\n'
        )
        environ = {**os.environ, "TOKEN": TOKEN, "ID": id_, "PYTHONPATH": str(ROOT)}
        said = []
        for call in CALLS:
            line = call.replace("127.0.0.1:9901", f"127.0.0.1:{gateway.sidecar_admin}")
            ran = subprocess.run(
                ["bash", "-c", shell + line],
                cwd=tmp_path,
                env=environ,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert 0 == ran.returncode, (call, ran.stdout, ran.stderr)
            said.append(ran.stdout)
            if '"dry_run": false' in call:
                hit_at(gateway, "What is a star?")
    listed, one, whole, inspected, rehearsed, purged, would_go, are_gone, flushed, flushed_again, known = said
    assert id_ in listed
    assert "sha256" in one
    assert '"content":' in whole
    assert id_ in inspected
    assert '"matched":1' in rehearsed
    assert '"removed":1' in purged
    assert "1 of 1 keys would go" in would_go
    assert "are gone" in are_gone
    assert '"epoch":3' in flushed
    assert "epoch 4 begins" in flushed_again
    assert '"epoch":4' in known
