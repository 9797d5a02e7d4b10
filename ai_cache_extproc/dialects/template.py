"""A JSON API that is known by paths alone (the way of Higress' ai-cache): its text is kept, and put into templates.

Only an answer that is text and nothing else is kept, since a template gives nothing else back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ai_cache_extproc.config.rules import AS_IT_CAME, Replaying
from ai_cache_extproc.config.template import Template
from ai_cache_extproc.dialects.base import Capture
from ai_cache_extproc.dialects.capture import begin_open_ended
from ai_cache_extproc.dialects.framing import sse
from ai_cache_extproc.dialects.openai_chat_answer import END_EVENT
from ai_cache_extproc.dialects.template_choice import FINISHED, ChoiceWatch, parsed
from ai_cache_extproc.dialects.usage import openai_usage
from ai_cache_extproc.dialects.window import EVERY_MESSAGE, Wanted, place_of, refused, window_of
from ai_cache_extproc.dialects.wording import plain_words
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.meaning import Unfit, Window
from ai_cache_extproc.model import Captured, Mode, Question, Reason, Replay, RequestHead, ResponseHead, Usage
from ai_cache_extproc.paths import Found, PathBudget, compile_path
from ai_cache_extproc.paths.template import compile_template

_TYPES = {Mode.JSON: "application/json; charset=utf-8", Mode.STREAM: "text/event-stream; charset=utf-8"}
_TEXT_TYPE = "text/plain; charset=utf-8"
# As Go reads a boolean (strconv.ParseBool), which is how the plugin reads `stream`.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")


class TemplateDialect:
    """One rule's template, compiled."""

    name = "template"
    path_suffixes: tuple[str, ...] = ()
    answer_headers: tuple[str, ...] = ()

    def __init__(self, template: Template, *, sse_line_bytes_max: int) -> None:
        """sse_line_bytes_max: a stream with a longer line is not kept."""
        self._line_bytes_max = sse_line_bytes_max
        self._reads_all = template.question == "all"
        self._question = compile_path(template.question_path)
        self._answer = compile_path(template.answer_path)
        self._piece = compile_path(template.stream_path)
        self._tool_calls = compile_path(template.tool_calls_path)
        self._choice = ChoiceWatch.of(template.answer_path, "message")
        self._choice_piece = ChoiceWatch.of(template.stream_path, "delta")
        self._replies = {
            Mode.JSON: compile_template(template.response, is_stream=False),
            Mode.STREAM: compile_template(template.stream_response, is_stream=True),
        }

    def read(self, body: Mapping[str, object], *, raw: bytes, head: RequestHead) -> Question:  # noqa: ARG002
        """Read a question. Raises DialectError(NOT_UNDERSTOOD) where there is none."""
        try:
            text = self._user_texts(body, raw) if self._reads_all else _string(self._question.find(raw, body))
        except PathBudget as error:
            raise DialectError(Reason.NOT_UNDERSTOOD, "the path takes too long on this body") from error
        if not text or not _is_unicode(text):
            raise DialectError(Reason.NOT_UNDERSTOOD, "no question where the rule looks for it")
        model = body.get("model")
        return Question(
            dialect=self.name,
            model=model if isinstance(model, str) else "",
            mode=Mode.STREAM if _is_true(body.get("stream")) else Mode.JSON,
            body=body,
            text=text,
        )

    def window(self, question: Question, wanted: Wanted) -> Window | Unfit:  # noqa: ARG002 - the paths say what
        """Where the text of the question stands, wherever that is; the rest has to be the same."""
        body = question.body
        unfit = refused(body, formats=(body.get("response_format"),))
        if unfit is not None:
            return unfit
        said = window_of(body, ("messages",), EVERY_MESSAGE) if "messages" in body else None
        if isinstance(said, Unfit):
            return said
        if self._reads_all:
            return said if said is not None and said.text == question.text else Unfit.NOT_TEXT
        place = place_of(body, question.text)
        return Unfit.NOT_TEXT if place is None else Window(question.text, (place,))

    def target(self, path: str) -> str:
        """The path as it is."""
        return path

    def capture(self, question: Question, head: ResponseHead) -> Capture:  # noqa: ARG002
        """Begin collecting. Raises DialectError(CONTENT_TYPE) for what is neither JSON nor an event stream."""
        return begin_open_ended(head, END_EVENT)

    def settle(self, question: Question, captured: Captured, *, tool_calls: bool) -> Captured:  # noqa: ARG002
        """The text of a whole answer.

        Raises DialectError: ANSWER_NOT_UNDERSTOOD, IN_BAND_ERROR, CUT, FINISH_REASON, TOOL_CALLS, MORE_THAN_TEXT,
        EMPTY_ANSWER.
        """
        try:
            text = self._text(captured.body) if captured.mode is Mode.JSON else self._streamed_text(captured.body)
        except PathBudget as error:
            raise DialectError(Reason.ANSWER_NOT_UNDERSTOOD, "the path takes too long on this answer") from error
        if not text.strip():
            raise DialectError(Reason.EMPTY_ANSWER, "no text where the rule looks for it")
        if not _is_unicode(text):
            raise DialectError(Reason.ANSWER_NOT_UNDERSTOOD, "text without a UTF-8 form")
        return replace(captured, mode=Mode.TEXT, content_type=_TEXT_TYPE, body=text.encode())

    def usage(self, captured: Captured) -> Usage | None:
        """The tokens that the answer says it took, where it says so as OpenAI does."""
        return openai_usage(captured)

    def words(self, captured: Captured) -> str | None:
        """What the answer says, where that is all in words."""
        return plain_words(captured)

    def replay(self, question: Question, captures: Sequence[Captured], wishes: Replaying = AS_IT_CAME) -> Replay | None:  # noqa: ARG002
        """The text in the template of the asked mode; usage and ids are the template's."""
        for captured in captures:
            if captured.mode is Mode.TEXT:
                rendered = self._replies[question.mode].render(captured.body.decode())
                return Replay(_TYPES[question.mode], rendered, captured)
        return None

    # Questions.

    def _user_texts(self, body: Mapping[str, object], raw: bytes) -> str:
        """What the user said, message by message; what is no text, as JSON as it was written."""
        messages = body.get("messages")
        if not isinstance(messages, list):
            return ""
        texts = []
        for index, message in enumerate(messages):
            if isinstance(message, dict) and message.get("role") == "user":
                content = message.get("content")
                found = None if isinstance(content, str) else compile_path(f"messages.{index}.content").find(raw, body)
                texts.append(content if isinstance(content, str) else _string(found))
        return "\n".join(texts)

    # Answers.

    def _text(self, body: bytes) -> str:
        answer = parsed(body)
        if self._choice is not None and self._choice.see(answer) != FINISHED:
            raise DialectError(Reason.FINISH_REASON, "the answer did not end by itself")
        return _string(self._answer.find(body, answer))

    def _streamed_text(self, body: bytes) -> str:
        pieces: list[str] = []
        finish: object = None
        is_ended = False
        for payload in self._payloads(body):
            if payload == END_EVENT.value:
                is_ended = True
                continue
            event = parsed(payload)
            if _string(self._tool_calls.find(payload, event)):
                raise DialectError(Reason.TOOL_CALLS, "the answer calls tools")
            if self._choice_piece is not None:
                finish = self._choice_piece.see(event) or finish
            pieces.append(_string(self._piece.find(payload, event)))
        if self._choice_piece is None:
            if not is_ended:
                raise DialectError(Reason.CUT, "the stream did not say that it was over")
        elif finish is None:
            raise DialectError(Reason.CUT, "the stream did not say why it ended")
        elif finish != FINISHED:
            raise DialectError(Reason.FINISH_REASON, "the answer did not end by itself")
        return "".join(pieces)

    def _payloads(self, body: bytes) -> Iterator[bytes]:
        for frame in sse.frames(body, self._line_bytes_max):
            if frame.event == "error":
                raise DialectError(Reason.IN_BAND_ERROR, "an error event")
            if frame.data:
                yield frame.data


def _string(found: Found | None) -> str:
    return "" if found is None else found.string


def _is_true(value: object) -> bool:
    if isinstance(value, str):
        return value in _TRUE
    return isinstance(value, bool | int | float) and bool(value)


def _is_unicode(text: str) -> bool:
    """JSON can spell half a surrogate pair, which is no text that a key or an answer can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
