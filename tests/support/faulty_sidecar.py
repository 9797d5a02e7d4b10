"""The sidecar with bugs of its own, which quote content: `python -m tests.support.faulty_sidecar serve ...`.

With FAULT in the environment it crashes while it starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

FAULT = "FAULTY_SIDECAR"
READ, SETTLE = "model-that-fails-to-be-read", "model-that-fails-to-be-settled"


def _spoil_dialect() -> None:
    from ai_cache_extproc.dialects.openai_chat import OpenAIChat  # noqa: PLC0415 - as below
    from ai_cache_extproc.model import Captured, Question, RequestHead  # noqa: PLC0415

    read, settle = OpenAIChat.read, OpenAIChat.settle

    def faulty_read(self: OpenAIChat, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:
        if body.get("model") == READ:
            try:
                raise KeyError(raw.decode())
            except KeyError as error:
                raise ValueError(f"cannot read {raw!r} with {dict(head.headers)}") from error
        return read(self, body, raw=raw, head=head)

    def faulty_settle(self: OpenAIChat, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:
        if question.model == SETTLE:
            raise ValueError(f"cannot settle {captured.body!r} for {question.body}")
        return settle(self, question, captured, tool_calls=tool_calls)

    OpenAIChat.read = faulty_read  # type: ignore[method-assign]  # a bug, planted
    OpenAIChat.settle = faulty_settle  # type: ignore[method-assign]


def _spoil_start() -> None:
    from ai_cache_extproc.app import Sidecar  # noqa: PLC0415
    from ai_cache_extproc.stores.base import Store  # noqa: PLC0415

    def crash(self: Sidecar, store: Store) -> None:
        raise RuntimeError(f"cannot start with {self._config.model_dump()} {store.name} {os.environ[FAULT]}")

    Sidecar._tell = crash  # type: ignore[method-assign]  # a bug, planted


def main() -> None:
    """Plant the bugs, then be the command line."""
    _spoil_dialect()
    if FAULT in os.environ:
        _spoil_start()
    from ai_cache_extproc.cli import main as run  # noqa: PLC0415 - the rest is imported by then

    run()


if __name__ == "__main__":
    main()
