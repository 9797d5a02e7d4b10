"""CPU time of processes from the operating system: user plus system time of all their threads and children."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def tree_cpu_s(pid: int) -> float:
    """CPU seconds that `pid` and its descendants have used, to the tick (10 ms as a rule).

    Ended descendants count as soon as their parent has waited for them.
    """
    fields = {int(path.parent.name): found for path in _PROC.glob("[0-9]*/stat") if (found := _stat(path))}
    children: dict[int, list[int]] = defaultdict(list)
    for member, values in fields.items():
        children[int(values[1])].append(member)
    waiting, ticks = [pid], 0
    while waiting:
        member = waiting.pop()
        waiting.extend(children[member])
        ticks += sum(int(value) for value in fields[member][11:15])
    return ticks * _TICK_S


def thread_cpu_s(pid: int) -> dict[str, float]:
    """CPU seconds of the live threads of `pid` by thread name, to the nanosecond."""
    used: dict[str, float] = defaultdict(float)
    for task in (_PROC / str(pid) / "task").iterdir():
        name = (task / "comm").read_text().strip()
        used[name] += int((task / "schedstat").read_text().split()[0]) / 1e9
    return dict(used)


def machine_cpu_s() -> float:
    """CPU seconds that all processes of the machine and its kernel have used since it started."""
    user, nice, system, _idle, _waiting, irq, soft_irq, *_ = (_PROC / "stat").read_text().split()[1:]
    return sum(map(int, (user, nice, system, irq, soft_irq))) * _TICK_S


def _stat(path: Path) -> list[str]:
    """The fields of proc(5) `stat` from the state on: [1] parent, [11:15] user, system and waited-for ticks."""
    try:
        text = path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name in parentheses may hold anything, so fields are counted from the last ")".
    return text.rpartition(")")[2].split()
