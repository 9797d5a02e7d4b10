"""Stands between Envoy and a sidecar and keeps what both said in the last exchange, message by message.

`python -m bench.recorder SIDECAR_ADDRESS FOLDER` prints its port. FOLDER then holds `asked-N.bin` and
`replied-N.bin`, N from 0: the yardstick sends these replies, and they are the sidecar's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import uvloop

from ai_cache_extproc.extproc.server import METHOD, SERVICE, Stream
from bench.transport import serve


class Recorder:
    """Passes raw bytes on, one question and one reply at a time."""

    def __init__(self, channel: grpc.aio.Channel, folder: Path) -> None:
        self._channel = channel
        self._folder = folder

    async def process(self, _requests: object, context: Stream) -> None:
        """Pass one exchange on and keep it in place of the one before."""
        for path in self._folder.glob("*.bin"):
            path.unlink()
        call = self._channel.stream_stream(f"/{SERVICE}/{METHOD}", None, None)()  # type: ignore[call-arg]
        index = 0
        # What is not bytes is grpcio's mark for the end of the stream.
        while isinstance(asked := await context.read(), bytes):
            await call.write(asked)
            reply = await call.read()
            if not isinstance(reply, bytes):
                return
            (self._folder / f"asked-{index}.bin").write_bytes(asked)
            (self._folder / f"replied-{index}.bin").write_bytes(reply)
            await context.write(reply)
            index += 1


async def _record(address: str, folder: Path) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await serve(Recorder(channel, folder).process)


if __name__ == "__main__":
    uvloop.run(_record(sys.argv[1], Path(sys.argv[2])))
