"""The sidecar under another time of day: `python -m tests.faults.shifted_clock SECONDS serve ...`.

SIGUSR1 sets its clock back by a day. The monotonic clock is left alone, as it is when someone sets a system's time.
"""

from __future__ import annotations

import signal
import sys
import time

DAY_S = 86_400.0


class _Clock:
    def __init__(self, shift_s: float) -> None:
        self._now = time.time
        self._shift_s = shift_s

    def __call__(self) -> float:
        return self._now() + self._shift_s

    def step_back(self, _number: int, _frame: object) -> None:
        self._shift_s -= DAY_S


def main() -> None:
    """Shift the clock before anything else takes hold of it, then be the command line."""
    clock = _Clock(float(sys.argv.pop(1)))
    time.time = clock
    signal.signal(signal.SIGUSR1, clock.step_back)
    from ai_cache_extproc.cli import main as run  # noqa: PLC0415 - it must see the shifted clock

    run()


if __name__ == "__main__":
    main()
