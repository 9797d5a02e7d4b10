"""What encryption adds to an entry: µs to write and to read one, in clear and sealed. Run: python -m bench.seal."""

from __future__ import annotations

import os
import timeit

from ai_cache_extproc.cache.formats.native import Native
from ai_cache_extproc.cache.formats.seal import Seal
from ai_cache_extproc.model import Captured, Entry, Identity, Mode

_IDENTITY = Identity("aicache:0:0123456789abcdef:" + "0" * 64, bytes(32), "lease")
_RUNS = 5_000


def _us(call: object) -> float:
    assert callable(call)
    return min(timeit.repeat(call, number=_RUNS, repeat=5)) / _RUNS * 1e6


def main() -> None:
    """Measure and print."""
    print(f"{'body':>8} {'':8} {'write':>7} {'read':>7}")
    for size_bytes in (1_000, 4_000, 64_000):
        captured = Captured(
            Mode.JSON, "application/json", os.urandom(size_bytes), created_s=0.0, expires_s=1.0, elapsed_s=1.0
        )
        entry = Entry("openai_chat", "m", "default", (captured,))
        for name, native in (("clear", Native()), ("sealed", Native(Seal({"k": os.urandom(32)})))):
            value = native.encode(entry, _IDENTITY)
            write_us = _us(lambda native=native, entry=entry: native.encode(entry, _IDENTITY))
            read_us = _us(lambda native=native, value=value: native.decode(value, _IDENTITY))
            print(f"{size_bytes:8} {name:8} {write_us:7.1f} {read_us:7.1f}")


if __name__ == "__main__":
    main()
