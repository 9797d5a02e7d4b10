"""Many clients on connections that stay open, each answer checked against its question, each moment kept.

The answer to a question is made from its text, so that an answer to another one, or a part of one, is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.load import hang_up, read_body, whole
from tests.support.upstream import Received, Script, answer, completion, completion_frames, stream

ANSWER_S = 0.005
STREAM_PAUSE_S = 0.01
PATIENCE_S = 30.0
LOOK_S = 0.01
_WORDS = 30


def words_for(question: str) -> list[str]:
    """The answer to a question, in the pieces in which a stream brings it."""
    return [f"{question}: ", *(f"{question} {number} " * (_WORDS // 3) for number in range(3)), f"end of {question}"]


def echo(received: Received) -> Script:
    """Answer as `words_for` has it, after a moment."""
    asked = received.json()
    (message,) = _list(asked["messages"])
    words = words_for(message["content"])
    if asked["stream"]:
        return stream(completion_frames(words), pause_s=STREAM_PAUSE_S)
    return [ANSWER_S, *answer(completion("".join(words)))]


def text_in(body: bytes, *, streamed: bool) -> str:
    """What an answer says. Raises ValueError, KeyError or IndexError for one that is not whole."""
    if not streamed:
        content: str = json.loads(body)["choices"][0]["message"]["content"]
        return content
    if not whole(body):
        raise ValueError("a stream without its end")
    events = [json.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer. label, reason: ours, `none` and empty where the sidecar said nothing."""

    status: int
    label: str
    reason: str
    age_s: int
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the crowd that was answered well. at_s: `time.monotonic()` when it was sent."""

    port: int
    at_s: float
    seconds: float
    question: str
    streamed: bool
    label: str
    reason: str


class Line:
    """One client on a connection that it keeps, and renews after a failure."""

    def __init__(self, port: int, *, key: str = "k") -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, question: str, *, streamed: bool = False, seconds: float = PATIENCE_S) -> Answered:
        """Ask. Raises OSError, EOFError, ValueError or TimeoutError for an answer that is not one."""
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(question, streamed=streamed)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            await hang_up(writer)

    async def _ask(self, question: str, *, streamed: bool) -> Answered:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        asked = {"model": "m", "stream": streamed, "messages": [{"role": "user", "content": question}]}
        body = json.dumps(asked).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1",
            "host: llm",
            f"authorization: Bearer {self._key}",
            "content-type: application/json",
            f"content-length: {len(body)}",
        )
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        received = await reader.readuntil(b"\r\n\r\n")
        status, *lines = received.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answered(
            status=int(status.split(" ")[1]),
            label=fields.get("x-ai-cache-status", "none"),
            reason=fields.get("x-ai-cache-reason", ""),
            age_s=int(fields.get("age", "0")),
            key=fields.get("x-ai-cache-key", ""),
            body=await read_body(reader, fields),
        )


async def ask_all(
    ports: Sequence[int], questions: Iterable[str], *, at_once: int = 20, streamed: bool = False
) -> list[Answered]:
    """Ask every question once, some at a time, at the ports in turn; the answers in the order of the questions."""
    waiting = iter(enumerate(questions))
    answers: dict[int, Answered] = {}

    async def work(line: Line) -> None:
        try:
            for number, question in waiting:
                answers[number] = await line.ask(question, streamed=streamed)
        finally:
            await line.close()

    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(work(Line(ports[number % len(ports)])))
    return [answers[number] for number in sorted(answers)]


@dataclass
class Crowd:
    """Asks until the context ends. A third of the questions are new, a third are the one before, a third are older.

    No question is on its way twice at a time at one port, so that nobody waits for another there; at several ports the
    same questions are asked. Every fifth question asks for a stream.
    """

    ports: Sequence[int]
    clients: int = 16
    pause_s: float = 0.02
    repertoire: int = 20
    seed: int = 0
    asked: list[Asked] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="crowd")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def requests(self) -> int:
        """How many have been answered or have failed."""
        return len(self.asked) + len(self.failures)

    def go_on(self, seconds: float) -> None:
        """Return after so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(LOOK_S)

    def wait_for(self, requests: int, *, seconds: float = 60) -> None:
        """Return when that many more requests have been answered."""
        goal, give_up = self.requests + requests, time.monotonic() + seconds
        while self.requests < goal:
            assert time.monotonic() < give_up, f"only {self.requests} of {goal} requests"
            time.sleep(LOOK_S)

    def hits_after(self, since_s: float, *, port: int | None = None, seconds: float = 20) -> float:
        """Return when a question asked after `since_s` was a hit: how long after it the answer was there.

        port: where it was asked, if that matters.
        """
        while True:
            hits = [asked for asked in self.between(since_s) if asked.label == "HIT" and port in {None, asked.port}]
            if hits:
                return min(asked.at_s + asked.seconds for asked in hits) - since_s
            assert time.monotonic() < since_s + seconds, f"no hit within {seconds} s: {self.labels(since_s)}"
            time.sleep(LOOK_S)

    def between(self, since_s: float, until_s: float = float("inf")) -> list[Asked]:
        """What was asked in this span."""
        found = []
        # Appended by the other thread in the order of the answers; none takes longer than PATIENCE_S.
        for number in range(len(self.asked) - 1, -1, -1):
            asked = self.asked[number]
            if since_s <= asked.at_s < until_s:
                found.append(asked)
            elif asked.at_s < since_s - PATIENCE_S:
                break
        return found

    def labels(self, since_s: float = 0.0) -> Counter[str]:
        """How often the cache said what, with its reason."""
        return Counter(f"{asked.label} {asked.reason}".strip() for asked in self.between(since_s))

    @property
    def slowest_s(self) -> float:
        """The longest that anyone waited for the end of an answer."""
        return max(asked.seconds for asked in list(self.asked))

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in range(self.clients):
                group.create_task(self._ask_on(client))

    async def _ask_on(self, client: int) -> None:
        chance = random.Random(f"{self.seed}/{client}")
        port = self.ports[client % len(self.ports)]
        line = Line(port)
        asker, number = client // len(self.ports), 0
        questions = [f"{asker}.0"]
        with contextlib.suppress(asyncio.CancelledError):
            while not self._stop.is_set():
                turn = chance.random()
                if turn < 1 / 3:
                    number += 1
                    questions.append(f"{asker}.{number}")
                elif turn < 2 / 3:
                    questions.append(questions.pop(chance.randrange(len(questions))))
                del questions[: -self.repertoire]
                await self._ask(line, port, questions[-1])
                await asyncio.sleep(self.pause_s * chance.uniform(0.5, 1.5))
        await line.close()

    async def _ask(self, line: Line, port: int, question: str) -> None:
        streamed = question.endswith(("3", "7"))
        started = time.monotonic()
        try:
            answered = await line.ask(question, streamed=streamed)
            said = text_in(answered.body, streamed=streamed) if answered.status == 200 else None
        except (OSError, EOFError, ValueError, LookupError, TimeoutError) as error:
            self.failures.append(f"{time.monotonic():.3f} {question} {error!r}")
            return
        if said != "".join(words_for(question)):
            self.failures.append(
                f"{time.monotonic():.3f} {question} {answered.status} {answered.label} {answered.body[-200:]!r}"
            )
            return
        seconds = time.monotonic() - started
        self.asked.append(Asked(port, started, seconds, question, streamed, answered.label, answered.reason))


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which this share lies; share: 0..1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _list(value: object) -> list[dict[str, str]]:
    assert isinstance(value, list)
    return value
