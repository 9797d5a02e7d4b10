"""The Redis user that is shipped, for servers that tests start."""

from __future__ import annotations

from pathlib import Path

USER, PASSWORD = "aicache", "change-me"
FILE = Path(__file__).parent.parent.parent / "deploy" / "redis" / "users.acl"


def shipped_acl() -> str:
    """The line of `deploy/redis/users.acl`, as it is shipped."""
    (line,) = (line for line in FILE.read_text().splitlines() if line.startswith("user "))
    assert line.startswith(f"user {USER} on >{PASSWORD} ")
    return line
