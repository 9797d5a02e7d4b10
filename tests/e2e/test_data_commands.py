"""The commands that move requests and entries, on one real gateway: what is predicted is what comes, and comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.entries import TOKEN
from tests.support.gateway import Gateway
from tests.support.terminal import Terminal, terminal


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """A terminal of its own."""
    return terminal(capsys, monkeypatch, tmp_path)


def line(text: str, **members: object) -> str:
    """A request for a log."""
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": text}]}
    return json.dumps({"headers": {"authorization": "Bearer me"}, "body": body, **members})


LINES = [
    line("What is a star?"),
    line("What is a star?"),
    line("What is a star?", headers={"authorization": "Bearer you"}),
    line("What is a planet?"),
    line("What is a star?", headers={}),
    line("What is a star?", headers={"authorization": "Bearer me", "x-higress-skip-ai-cache": "on"}),
    line("What is a star?"),
]


def test_a_log_is_predicted_warmed_exported_and_brought_back(run: Terminal, tmp_path: Path) -> None:
    """Replay says what warm then meets; a new store that is given the file answers all of it; a purge is not undone."""
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "log.jsonl").write_text("\n".join(LINES))
    log, file = str(tmp_path / "log.jsonl"), str(tmp_path / "answers.jsonl")
    config = {"admin_access": {"token": TOKEN}, "identity": {"key_file": str(tmp_path / "key")}}
    with Gateway(tmp_path / "gateway", config) as gateway:
        to = ("--admin", f"127.0.0.1:{gateway.sidecar_admin}", "--token-file", str(tmp_path / "token"))
        warm = ("warm", log, "--gateway", gateway.url, "--concurrency", "1")
        total = run.json("replay", log, "--config", str(gateway.config))["total"]
        assert isinstance(total, dict)
        assert ({"exact": 2, "semantic": 0}, 3) == (total["hits"], total["misses"])
        assert {"no_credential": 1, "skip_header": 1} == total["bypasses"]

        met = run.json(*warm)
        assert {"hit": 2, "miss": 3, "bypass": 2} == met["results"]
        assert (total["bypasses"], {"200": 7}, 0) == (met["reasons"], met["statuses"], met["failed"])
        code, out, _ = run("stats", "--watch", "--ticks", "1", *to, "--output", "json")
        look = json.loads(out)
        assert (0, {"hit": 2, "miss": 3, "bypass": 2}, 0.4) == (code, look["requests"], look["hit_ratio"])
        assert {"no_credential", "skip_header"} == look["bypasses"].keys()
        assert {"hit": 2, "miss": 3, "bypass": 2} == run.json("stats", *to)["requests"]
        code, _, err = run("stats", *to[:2])
        assert (1, True) == (code, "needs the token of admin_access" in err)

        assert 3 == gateway.entries()
        assert 3 == run.json("export", file, *to)["entries"]
        gateway.sidecar.stop()
        for left in gateway.folder.glob("cache.db*"):
            left.unlink()
        gateway.start_sidecar()
        gateway.wait_for_sidecar()
        assert 0 == gateway.entries()
        assert {"done": 3} == run.json("import", file, *to)["counts"]
        assert {"hit": 5, "bypass": 2} == run.json(*warm)["results"]

        assert 0 == run("purge", "--model", "gpt-test", "--yes", *to)[0]
        assert {"purged": 3} == run.json("import", file, *to)["counts"]
        assert {"hit": 2, "miss": 3, "bypass": 2} == run.json(*warm)["results"]

    # Envoy writes the last of its log as it ends.
    logged = run.json("replay", str(gateway.folder / "access.log"), "--config", str(gateway.config))
    assert ({"hit": 9, "miss": 6, "bypass": 6}, 0) == (logged["logged"], logged["unreadable"])
    assert 21 == logged["total"]["unknown"]  # type: ignore[index]  # JSON
