"""Runs a module under cProfile: `python -m bench.profiled FILE MODULE ARGUMENT...`.

SIGUSR1 starts the profile; SIGUSR2 ends it and writes FILE. Only the main thread is seen: the one of the event loop.
"""

from __future__ import annotations

import cProfile
import runpy
import signal
import sys
from pathlib import Path
from types import FrameType


def main() -> None:
    """Install the two signals, then become the module."""
    file, module, *arguments = sys.argv[1:]
    profiler = cProfile.Profile()

    def begin(_number: int, _frame: FrameType | None) -> None:
        profiler.enable()

    def end(_number: int, _frame: FrameType | None) -> None:
        profiler.disable()
        # The reader waits for the name, which must come with the whole content.
        partial = Path(file).with_suffix(".partial")
        profiler.dump_stats(partial)
        partial.rename(file)

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
