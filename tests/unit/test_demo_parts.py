"""The demo's parts one by one: its upstream, its child processes, and what it says of a pair of answers."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from ai_cache_extproc.cli import demo, demo_meaning, demo_processes, demo_upstream
from ai_cache_extproc.cli.demo_client import Answer, ask
from ai_cache_extproc.cli.demo_processes import Children, DemoFailed, free_port
from ai_cache_extproc.cli.demo_words import failure, to_try
from ai_cache_extproc.config.thresholds import E5_SMALL_Q4, USE_MULTILINGUAL
from ai_cache_extproc.errors import ConfigError


@pytest.fixture
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's upstream without its delay."""
    monkeypatch.setattr(demo_upstream, "DELAY_S", 0.0)
    monkeypatch.setattr(demo_upstream, "FIRST_WORD_S", 0.0)


async def post(asked: object) -> httpx2.Response:
    """What the demo's upstream answers."""
    transport = httpx2.ASGITransport(app=demo_upstream.application())
    async with httpx2.AsyncClient(transport=transport, base_url="http://demo") as client:
        return await client.post("/v1/chat/completions", json=asked)


def question(**more: object) -> dict[str, object]:
    """A chat completion request."""
    return {"model": "m", "messages": [{"role": "user", "content": "Why?"}], **more}


async def test_the_upstream_answers_the_same_in_both_modes(in_no_time: None) -> None:
    """A stream holds the words of the JSON answer, and the same question has the same answer again."""
    whole, again, other = [await post(question()) for _ in range(2)] + [
        await post(question(messages=[{"content": ["?"]}]))
    ]
    streamed = await post(question(stream=True))
    frames = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line]
    assert "[DONE]" == frames.pop()
    deltas = [json.loads(frame)["choices"][0]["delta"].get("content", "") for frame in frames]
    assert whole.json()["choices"][0]["message"]["content"] == "".join(deltas)
    assert whole.content == again.content != other.content


async def test_the_upstream_counts_tokens_where_asked(in_no_time: None) -> None:
    """With `include_usage` the last chunk holds the usage of the JSON answer, and the others none."""
    whole = await post(question())
    streamed = await post(question(stream=True, stream_options={"include_usage": True}))
    frames = [json.loads(line.removeprefix("data: ")) for line in streamed.text.split("\n\n")[:-2]]
    assert whole.json()["usage"] == frames[-1]["usage"]
    assert {None} == {frame["usage"] for frame in frames[:-1]}


@pytest.mark.parametrize(
    "asked",
    [
        [],
        {"model": "m"},
        {"model": "m", "messages": []},
        {"messages": [{"content": "?"}]},
        {"model": "m", "messages": "x"},
    ],
)
async def test_the_upstream_refuses_what_is_no_question(asked: object) -> None:
    """Anything else is a 400 in OpenAI's form."""
    refused = await post(asked)
    assert (400, "invalid_request_error") == (refused.status_code, refused.json()["error"]["type"])


async def test_the_upstream_lists_its_model() -> None:
    """`GET /v1/models` is traffic that is no LLM call."""
    transport = httpx2.ASGITransport(app=demo_upstream.application())
    async with httpx2.AsyncClient(transport=transport, base_url="http://demo") as client:
        assert ["demo"] == [model["id"] for model in (await client.get("/v1/models")).json()["data"]]


def test_the_upstream_listens_on_tcp_only() -> None:
    """A socket file is refused with the form that is wanted."""
    with pytest.raises(ConfigError, match="is not HOST:PORT"):
        demo_upstream.main("unix:/x")


def test_a_free_port_is_the_preferred_one_or_another() -> None:
    """A port in use is not given out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in {0, port}
    assert port == free_port(port)


def test_a_child_that_ends_is_told_with_its_output(tmp_path: Path) -> None:
    """A child that does not start ends the demo with what the child wrote."""
    with Children(tmp_path) as children, pytest.raises(DemoFailed, match=r"thing did not start\nout of luck"):
        children.start("thing", [sys.executable, "-c", "exit('out of luck')"], ready_url="http://127.0.0.1:1/")


SERVE = """
import http.server, signal, sys
class Yes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"yes")
        self.server.asked = True
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Yes)
server.handle_request()
if sys.argv[2] == "deaf":
    while True: signal.pause()
"""


def test_a_child_that_ends_later_is_told_too(tmp_path: Path) -> None:
    """Staying up ends when a child does."""
    port = free_port()
    with Children(tmp_path) as children:
        command = [sys.executable, "-c", SERVE, str(port), "brief"]
        children.start("thing", command, ready_url=f"http://127.0.0.1:{port}/", expect="yes")
        with pytest.raises(DemoFailed, match="thing ended with 0"):
            children.watch()


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM first, SIGKILL where that does nothing; our own signal handlers are as before."""
    monkeypatch.setattr(demo_processes, "STOP_S_MAX", 0.05)
    before = signal.getsignal(signal.SIGINT)
    port = free_port()
    with Children(tmp_path) as children:
        command = [sys.executable, "-c", SERVE, str(port), "deaf"]
        children.start("thing", command, ready_url=f"http://127.0.0.1:{port}/")
        (_, child) = children._running[0]
    assert -signal.SIGKILL == child.returncode
    assert before == signal.getsignal(signal.SIGINT)


def test_no_answer_is_told() -> None:
    """A connection that is refused is the demo's failure, not a traceback."""
    with pytest.raises(DemoFailed, match="no whole answer came"):
        ask(free_port(), "?", model="m", stream=False, key=None)


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> Answer:
    """An answer with headers, `_` for `-`."""
    named: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body, 1.0, 2.0)


HIT = answer(x_ai_cache_status="HIT")
MISS = answer(x_ai_cache_status="MISS")


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ((MISS, answer(body=b"[]", x_ai_cache_status="HIT")), "not what the miss was, byte for byte"),
        ((MISS, MISS), "no hit but MISS (no reason was given)"),
        ((MISS, answer()), "no hit but not seen by the sidecar"),
        ((MISS, answer(x_ai_cache_status="BYPASS", x_ai_cache_reason="no_key")), "no hit but BYPASS (no_key)"),
        ((answer(401, b"no key"), HIT), "the provider answered 401; set OPENAI_API_KEY to a key that it takes\nno key"),
        ((answer(404), HIT), "answered 404; choose another --model"),
        ((MISS, answer(503)), "Envoy answered 503; it does not reach the upstream"),
        ((MISS, answer(500, b"\xff")), "the provider answered 500\n\ufffd"),
    ],
)
def test_a_failure_is_told_plainly(pair: tuple[Answer, Answer], said: str) -> None:
    """Each way of not being a hit has words of its own."""
    text = failure("JSON", *pair, real=True)
    assert text is not None
    assert said in text


def test_a_miss_and_its_hit_are_no_failure() -> None:
    """The same bytes, the second time from the cache."""
    assert failure("JSON", MISS, HIT, real=True) is None


def test_a_key_is_named_only_for_a_real_provider() -> None:
    """What to try holds the variable, never the key itself."""
    assert "$OPENAI_API_KEY" in to_try(1, 2, model="m", real=True)
    assert "$OPENAI_API_KEY" not in to_try(1, 2, model="m", real=False)


def test_a_system_without_authorities_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file of authorities is found, the variable that names one is."""
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(DemoFailed, match="set SSL_CERT_FILE"):
        demo._ca_file()


def of_meaning(*statuses: str) -> list[Answer]:
    """What became of the five questions that are matched by meaning."""
    reason = {"x-ai-cache-reason": "late"}
    return [Answer(200, ({"x-ai-cache-status": each} | reason) if each else {}, b"{}", 1.0, 1.0) for each in statuses]


def test_each_model_has_its_own_outcome() -> None:
    """The light model misses the third question, and the demo says so; any other outcome is a failure with its reason."""
    full, light = E5_SMALL_Q4, USE_MULTILINGUAL
    assert demo_meaning.failure(of_meaning("MISS", "HIT", "HIT", "MISS", "MISS"), full) is None
    assert demo_meaning.failure(of_meaning("MISS", "HIT", "MISS", "MISS", "MISS"), light) is None
    missed = demo_meaning.failure(of_meaning("MISS", "MISS", "HIT", "MISS", "MISS"), full)
    assert "什么是星星 was MISS, not HIT (late)" == missed
    unseen = demo_meaning.failure(of_meaning("", "HIT", "HIT", "MISS", "MISS"), full)
    assert "星星是什么 was not seen by the sidecar, not MISS (no reason was given)" == unseen
    assert "misses the third" in demo_meaning.caption(light)
    assert "misses" not in demo_meaning.caption(full)


def test_without_a_model_there_is_nothing_to_match_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo then goes without that part, as where `embedded` was not installed."""

    def none_is_installed(_settings: object) -> str:
        raise ConfigError("embedder.model", "is not installed")

    monkeypatch.setattr(demo_meaning, "chosen", none_is_installed)
    assert demo_meaning.model_here() is None
