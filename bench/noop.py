"""The yardstick: a grpcio ext_proc server that sends the same bytes to everyone and looks at nothing.

`python -m bench.noop REPLY_FILE...` answers message n of every stream with file n, as the sidecar did
when the files were recorded (`bench.recorder`), and prints its port.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import uvloop

from ai_cache_extproc.extproc.server import END, Stream
from bench.transport import serve


class Constant:
    """A servicer of raw bytes."""

    def __init__(self, replies: list[bytes]) -> None:
        self._replies = replies

    async def process(self, _requests: object, context: Stream) -> None:
        """Read and write in turns; after the immediate answer Envoy ends the stream."""
        replies = iter(self._replies)
        while await context.read() is not END:
            await context.write(next(replies))


if __name__ == "__main__":
    gc.freeze()
    uvloop.run(serve(Constant([Path(name).read_bytes() for name in sys.argv[1:]]).process))
