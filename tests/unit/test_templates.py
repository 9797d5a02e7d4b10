"""Templates with one `%s`: what is compiled, what is refused, and that every text comes back."""

from __future__ import annotations

import json

import pytest

from ai_cache_extproc.config.template import RESPONSE, STREAM_RESPONSE
from ai_cache_extproc.paths.found import PathError
from ai_cache_extproc.paths.template import Place, compile_template

OLD_RESPONSE = (
    '{"id":"from-cache","choices":[%s],"model":"gpt-4o","object":"chat.completion","usage":{"total_tokens":0}}'
)
OLD_STREAM = 'data:{"id":"from-cache","choices":[%s],"model":"gpt-4o","object":"chat.completion"}\n\ndata:[DONE]\n\n'
HOSTILE = [
    'ends with "',
    "a\\",
    '"}],"x":[{"',
    "\n\ndata: [DONE]\n\n",
    "%s %% %d",
    "\x00\x07\x0b\x7f\u2028",
    "\U0001f680中文",
]


def events(stream: bytes) -> list[str]:
    """What each event of a stream says."""
    return [event.removeprefix("data:").strip() for event in stream.decode().split("\n\n") if event]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_comes_back_through_the_defaults(text: str) -> None:
    """Both default templates stay JSON with any text in them, and give it back."""
    answer = json.loads(compile_template(RESPONSE, is_stream=False).render(text))
    assert text == answer["choices"][0]["message"]["content"]
    said, end = events(compile_template(STREAM_RESPONSE, is_stream=True).render(text))
    assert (text, "[DONE]") == (json.loads(said)["choices"][0]["delta"]["content"], end)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_old_default_takes_a_whole_choice(text: str) -> None:
    """Where the old templates want a choice, the choice is put around the text, in the shape of the mode."""
    template = compile_template(OLD_RESPONSE, is_stream=False)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    assert Place.CHOICE is template.place
    assert [choice] == json.loads(template.render(text))["choices"]
    said, _ = events(compile_template(OLD_STREAM, is_stream=True).render(text))
    delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    assert [delta] == json.loads(said)["choices"]


def test_outside_a_string_a_value_is_put() -> None:
    """Outside quotes the text becomes a JSON string with quotes of its own."""
    template = compile_template('{"output": {"text": %s}}', is_stream=False)
    assert (Place.VALUE, b'{"output": {"text": "a\\"b"}}') == (template.place, template.render('a"b'))


def test_an_element_of_another_list_is_a_value() -> None:
    """Only `choices` wants a choice."""
    assert b'{"texts": ["a"]}' == compile_template('{"texts": [%s]}', is_stream=False).render("a")


def test_two_percent_signs_are_one() -> None:
    """`%%` is a percent sign, as in the format that such templates were written for; a single one stays."""
    template = compile_template('{"a": "%s", "b": "100%%", "c": "5 %"}', is_stream=False)
    assert {"a": "x", "b": "100%", "c": "5 %"} == json.loads(template.render("x"))


def test_streams_may_hold_comments_and_several_events() -> None:
    """Comments, event names, CR LF and events without the text are left as they are."""
    text = ': hi\r\n\r\nevent: delta\r\ndata: {"text":"%s"}\r\n\r\ndata: {"usage":0}\r\n\r\ndata: [DONE]\r\n\r\n'
    rendered = compile_template(text, is_stream=True).render("a\nb")
    assert text.replace("%s", "a\\nb").encode() == rendered


@pytest.mark.parametrize(
    ("text", "is_stream", "reason"),
    [
        pytest.param('{"a": "b"}', False, "has 0 places for the text; write %s exactly once", id="no place"),
        pytest.param('{"a": "%s", "b": "%s"}', False, "has 2 places for the text; write %s exactly once", id="two"),
        pytest.param('{"a": "%s"', False, "is not JSON once a text stands in the place of %s", id="not JSON"),
        pytest.param('{"%s": 1}', False, "is not JSON once a text stands in the place of %s", id="a name"),
        pytest.param("data: %s", True, "is not a stream of `data: {...}` events", id="no blank line"),
        pytest.param('{"a": "%s"}\n\n', True, "is not a stream of `data: {...}` events", id="no data"),
        pytest.param('data: {"a": "%s"\n\n', True, "is not a stream of `data: {...}` events", id="event not JSON"),
    ],
)
def test_what_cannot_work_is_refused(text: str, is_stream: bool, reason: str) -> None:
    """A template that would not be an answer is refused when it is loaded, with the reason."""
    with pytest.raises(PathError) as refused:
        compile_template(text, is_stream=is_stream)
    assert str(refused.value).startswith(reason)
