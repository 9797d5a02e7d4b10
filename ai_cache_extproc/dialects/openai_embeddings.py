"""OpenAI embeddings: a batch of inputs, a batch of vectors, always JSON. A batch is kept as a whole and item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin
from ai_cache_extproc.dialects.openai_chat_answer import END_EVENT, completion, index_of, not_understood
from ai_cache_extproc.dialects.openai_chat_replay import MINT, Mint, openai_change, replayed
from ai_cache_extproc.dialects.openai_chat_request import flag, model_of, no_question, points_elsewhere, texts_asked
from ai_cache_extproc.dialects.openai_embeddings_items import alone, items_of, join, split
from ai_cache_extproc.dialects.usage import openai_usage
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, RequestHead, ResponseHead, Usage

_NUMBERS = {int, float}


class OpenAIEmbeddings:
    """`/v1/embeddings`, also under any prefix: Azure's deployments, DashScope's compatible mode."""

    name = "openai_embeddings"
    path_suffixes: tuple[str, ...] = ("/embeddings",)
    answer_headers: tuple[str, ...] = ("openai-beta", "openai-organization", "openai-project")

    def __init__(self, *, mint: Mint = MINT) -> None:
        self._mint = mint

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question, which asks for one vector for each input.

        Raises DialectError: NOT_UNDERSTOOD, or REMOTE_MEDIA for inputs that the upstream would fetch.
        """
        if flag(body, "stream"):
            raise no_question("embeddings are never streamed")
        return Question(
            dialect=self.name,
            model=model_of(body),
            mode=Mode.JSON,
            body=alone(body),
            choices=_inputs(body.get("input")),
        )

    def target(self, path: str) -> str:
        """The path as it is: there is one mode."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is not JSON."""
        capture = begin(head, END_EVENT)
        if capture.mode is not Mode.JSON:
            raise DialectError(Reason.CONTENT_TYPE, "not JSON")
        return capture

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:  # noqa: ARG002
        """The whole answer, if it holds a vector for every input.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, EMPTY_ANSWER.
        """
        vectors = completion(captured.body).get("data")
        if not isinstance(vectors, list) or not all(isinstance(vector, dict) for vector in vectors):
            raise not_understood("data is not a list of objects")
        if sorted(map(index_of, vectors)) != list(range(question.choices)):
            raise DialectError(Reason.CUT, f"{len(vectors)} vectors for {question.choices} inputs")
        for vector in vectors:
            _check(vector.get("embedding"))
        return captured

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that the answer says it took."""
        return openai_usage(captured)

    def items(self, question: Question) -> tuple[Question, ...]:
        """One question for each text of a batch."""
        return items_of(question)

    def split(self, question: Question, captured: Captured) -> tuple[Captured, ...]:
        """An answer for each item. Raises DialectError."""
        return split(question, captured)

    def join(self, captures: Sequence[Captured]) -> Captured | None:
        """The answer to a batch."""
        return join(captures)

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:
        """The answer byte for byte, or with what the rule wants changed."""
        return replayed(question, captures, wishes, change=openai_change(wishes, self._mint, "embd-"))


def _inputs(value: object) -> int:
    """How many inputs. Hosts of models that embed images take objects too. Raises DialectError."""
    if isinstance(value, list) and value and set(map(type, value)) <= {str, dict}:
        if points_elsewhere([part for part in value if isinstance(part, dict)]):
            raise DialectError(Reason.REMOTE_MEDIA, "an input points at media elsewhere")
        return len(value)
    return texts_asked(value, "input")


def _check(embedding: object) -> None:
    """Raises DialectError for what is no vector, be it numbers or base64."""
    if embedding is None or embedding in ("", []):
        raise DialectError(Reason.EMPTY_ANSWER, "a vector without numbers")
    if isinstance(embedding, list) and set(map(type, embedding)) <= _NUMBERS:
        return
    if not isinstance(embedding, str):
        raise not_understood("a vector of another kind")
