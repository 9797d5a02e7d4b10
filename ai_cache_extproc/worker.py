"""One worker process: the sidecar that its supervisor ordered. `fleet.py` starts it as `python -m ai_cache_extproc.worker`.

Its standard input is the supervisor's life line, its standard output the way to say that it serves; logs go to standard
error, which all share.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import structlog
import uvloop

from ai_cache_extproc.app import Sidecar, freeze
from ai_cache_extproc.config.addresses import UnixAddress, parse_address
from ai_cache_extproc.config.load import Loaded, load
from ai_cache_extproc.errors import ConfigError
from ai_cache_extproc.extproc.orders import Order, Ready, Refused, Word, unpack, written
from ai_cache_extproc.telemetry import logs

ORDERS, WORDS = 0, 1
"""File descriptors: standard input and output."""
ORPHAN_S = 2.0
"""How long a worker without a supervisor may drain: it holds an address that the next supervisor's worker needs."""

log = structlog.get_logger()


def main() -> None:
    """Serve as ordered until told to end. Exit code 1 if the order cannot be carried out."""
    try:
        order = unpack(_read_exactly)
        logs.configure(order.loaded.config.log.level, order.loaded.config.log.format, worker=order.number)
        logs.hook_exceptions()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(order))
    except ConfigError as error:
        _say(Refused(error))
        sys.exit(1)
    except EOFError:
        # There is no supervisor any more, and nothing was begun.
        return


def placed(loaded: Loaded, order: Order) -> Loaded:
    """The document as it holds for one worker: its own addresses, its private admin."""
    own = {"listen": order.listen, "admin": order.admin}
    return replace(loaded, config=loaded.config.model_copy(update=own))


async def _serve(order: Order) -> None:
    def reload() -> Loaded:
        return placed(load(order.loaded.path, flags=order.flags), order)

    def ready() -> None:
        freeze()
        _say(Ready(sidecar.listen))

    sidecar = Sidecar(placed(order.loaded, order), reload=reload, on_ready=ready)
    life = _Life(sidecar, order)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, life.drain)
    loop.add_signal_handler(signal.SIGINT, life.end)
    loop.add_signal_handler(signal.SIGHUP, sidecar.poke)
    loop.add_reader(ORDERS, life.hear)
    await sidecar.run()
    life.tidy()


class _Life:
    """How a worker ends: by a signal, or because its supervisor is gone."""

    def __init__(self, sidecar: Sidecar, order: Order) -> None:
        self._sidecar = sidecar
        self._admin = parse_address(order.admin)
        self._draining = False
        self._orphaned = False

    def drain(self) -> None:
        """Drain. Said twice it is no hurry: whoever stops a group of processes tells the supervisor and each worker."""
        if not self._draining:
            self._draining = True
            self._sidecar.stop()

    def end(self) -> None:
        """End without draining further."""
        self.drain()
        self._sidecar.stop()

    def hear(self) -> None:
        """Read from the supervisor, which says no more than its order: what comes is its end."""
        if os.read(ORDERS, 4096):
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(ORDERS)
        self._orphaned = True
        self.drain()
        loop.call_later(ORPHAN_S, self.end)
        log.warning("supervisor_gone", gives_up_in_s=ORPHAN_S)

    def tidy(self) -> None:
        """Remove what the supervisor would have removed. The last worker finds the folder empty."""
        if self._orphaned and isinstance(self._admin, UnixAddress):
            with contextlib.suppress(OSError):
                Path(self._admin.path).parent.rmdir()


def _read_exactly(count: int) -> bytes:
    """So many bytes of the order, without reading ahead. Raises EOFError."""
    content = bytearray()
    while len(content) < count:
        piece = os.read(ORDERS, count - len(content))
        if not piece:
            raise EOFError
        content += piece
    return bytes(content)


def _say(word: Word) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(WORDS, written(word))


if __name__ == "__main__":
    main()
