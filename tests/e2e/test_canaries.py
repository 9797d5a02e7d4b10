"""No secret, no prompt and no answer in anything that the sidecar writes, over a whole run with all that can go wrong.

Every secret, question, answer and header of a client holds the word `canary`; whatever was written is searched for it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from tests.support.collector import Collector
from tests.support.faulty_sidecar import FAULT, READ, SETTLE
from tests.support.gateway import ROOT, Gateway, Node, redis_store
from tests.support.meanings import PATIENT_EMBEDDED
from tests.support.redis_server import RedisServer
from tests.support.upstream import End, Received, Script, answer, completion, completion_frames, stream

REDIS_PASSWORD = "canary-redis-password"
ADMIN_TOKEN = "canary-admin-token"
COLLECTOR_TOKEN = "canary-collector-token"
IDENTITY_KEY = "canary-identity-key-0123456789abcdef"
ENCRYPTION_KEY = b"canary-encryption-key-0123456789"
PROMPT = "canary-prompt: what is a star?"
ANSWER = "canary-answer: a ball of gas."
MODEL = "budgerigar-model"
"""Client-chosen too, and in no log, metric or span; entries name it in clear, for those who purge by model."""
BIRDS = (
    b"canary",
    ENCRYPTION_KEY.hex().encode(),
    base64.b64encode(ENCRYPTION_KEY),
    base64.b64encode(PROMPT.encode())[:-4],
    base64.b64encode(ANSWER.encode())[:-4],
)
CLIENT = {
    "content-type": "application/json",
    "authorization": "Bearer canary-credential",
    "x-api-key": "canary-api-key",
    "cookie": "session=canary-cookie",
    "x-forwarded-client-cert": "canary-certificate",
    "user-agent": "canary-agent",
    "tracestate": "vendor=1",
}
CHAT = "/v1/chat/completions"
PAGES = (
    "/metrics", "/livez", "/readyz", "/stats", "/version", "/config", "/purges", "/canary?canary=canary",
    "/entries?limit=canary", "/entries/canary",
)  # fmt: skip


def found_in(outputs: Mapping[str, bytes], *birds: bytes) -> dict[str, bytes]:
    """What was found where, with what stands around it."""
    places: dict[str, bytes] = {}
    for name, written in outputs.items():
        for bird in birds or BIRDS:
            at = written.lower().find(bird.lower())
            if at >= 0:
                places[name] = written[max(0, at - 200) : at + 100]
    return places


def upstream_says(received: Received) -> Script:
    """As the question's member `upstream` asks for; in every answer the canary."""
    try:
        asked = received.json()
    except ValueError:
        asked = {}
    good = completion(ANSWER)
    frames = completion_frames((ANSWER, " canary"), usage=True)
    match asked.get("upstream"):
        case "error":
            return answer(b'{"error": {"message": "canary-error"}}', status="500 Internal Server Error")
        case "in-band":
            return answer(b'{"error": {"message": "canary-error"}}')
        case "broken":
            return answer(b'{"id": "canary-answer", ')
        case "odd":
            return answer(b'{"choices": "canary-answer"}')
        case "cookie":
            return answer(good, headers=[("set-cookie", "canary=canary")])
        case "html":
            return answer(b"<p>canary-answer</p>", content_type="text/html; canary=1")
        case "header":
            return answer(good, headers=[("x-canary", "canary"), ("cache-control", "private, canary")])
        case "cut":
            return stream(frames[:2], end=End.RESET)
        case "event":
            return stream([*frames[:2], b'event: error\ndata: {"error": "canary-error"}\n\n', frames[-1]])
        case _:
            pass
    if asked.get("stream"):
        return stream(frames)
    return answer(good)


def question(**members: Any) -> bytes:
    """A question about stars, among other members."""
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], **members}).encode()


# What is bypassed, and why: a body, further headers, a path.
ODD: Mapping[str, tuple[bytes, Mapping[str, str], str]] = {
    "no_store": (question(), {"cache-control": "no-store, canary"}, CHAT),
    "skip_header": (question(), {"x-higress-skip-ai-cache": "on"}, CHAT),
    "not_json": (b'{"canary": ', {}, CHAT),
    "list": (b'["canary"]', {}, CHAT),
    "bom": (b"\xef\xbb\xbf" + question(), {}, CHAT),
    "trailing_data": (question() + b' "canary"', {}, CHAT),
    "duplicate_key": (question()[:-1] + b', "messages": "canary"}', {}, CHAT),
    "duplicate_canary": (b'{"canary": 1, "canary": 2}', {}, CHAT),
    "number": (question()[:-1] + b', "seed": 123456789012345678901234567890}', {}, CHAT),
    "too_deep": (question(canary=json.loads("[" * 200 + '"canary"' + "]" * 200)), {}, CHAT),
    "not_unicode": (b'{"canary": "\xff"}', {}, CHAT),
    "half_surrogate": (question(canary="\ud800"), {}, CHAT),
    "not_understood": (question(messages="canary"), {}, CHAT),
    "side_effect": (question(store=True, metadata={"canary": "canary"}), {}, CHAT),
    "request_encoded": (question(), {"content-encoding": "canary"}, CHAT),
    "bad_trace": (question(), {"traceparent": "00-canary-canary-01"}, CHAT),
    "key_in_query": (question(), {}, f"{CHAT}?key=canary-query-key&canary=1"),
    "other_traffic": (question(), {}, "/other?canary=1"),
}


def post(gateway: Gateway, body: bytes, *, path: str = CHAT, **headers: str) -> httpx2.Response | None:
    """What a client gets; None where the upstream broke the connection off."""
    with contextlib.suppress(httpx2.HTTPError):
        return httpx2.post(gateway.url + path, content=body, headers={**CLIENT, **headers}, timeout=20)
    return None


def status_of(response: httpx2.Response | None) -> str:
    """What the cache said of an answer."""
    assert response is not None
    assert ANSWER in response.text
    return str(response.headers["x-ai-cache-status"])


def get(gateway: Gateway, path: str, *, method: str = "GET", token: str = ADMIN_TOKEN, body: object = None) -> bytes:
    """An admin page, whatever its status."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    url = f"http://127.0.0.1:{gateway.sidecar_admin}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=10) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        return error.read()


def use(gateway: Gateway) -> None:
    """Misses, hits and bypasses, JSON and streams, and an upstream that fails in every way."""
    gateway.upstream.fresh(upstream_says)
    for stream_ in (False, True):
        asked = question(stream=stream_, n=1, seed=int(stream_))
        assert "MISS" == status_of(post(gateway, asked))
        gateway.entries()
        assert ["HIT", "HIT"] == [status_of(post(gateway, asked, traceparent=TRACE)) for _ in range(2)]
    ask_in_other_words(gateway)
    for body, headers, path in ODD.values():
        post(gateway, body, path=path, **headers)
    for fault in ("error", "in-band", "broken", "odd", "cookie", "html", "header"):
        post(gateway, question(upstream=fault))
    for fault in ("cut", "event"):
        post(gateway, question(upstream=fault, stream=True))
    for model in (READ, SETTLE):
        answered = post(gateway, question(model=model))
        assert answered is not None
        assert ANSWER in answered.text
    gateway.entries()


def ask_in_other_words(gateway: Gateway) -> None:
    """Until one of them is found by its meaning: the first answer may still be on its way into the index."""
    for number in range(100):
        body = question(messages=[{"role": "user", "content": PROMPT + " " * number}], n=1, seed=0)
        answered = post(gateway, body)
        if answered is not None and "x-ai-cache-similarity" in answered.headers:
            return
    raise AssertionError("nothing was found by its meaning")


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def abuse(gateway: Gateway) -> None:
    """Whoever reaches the sidecar's own port sends it what Envoy never would."""
    with grpc.insecure_channel(f"127.0.0.1:{gateway.sidecar_ports[0]}") as channel:
        process = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process", bytes, bytes)
        for message in (b"canary", b"\x12\x06canary", b"\x1a\x08\x0a\x06canary"):
            with contextlib.suppress(grpc.RpcError):
                list(process(iter([message])))


def misconfigure(gateway: Gateway) -> None:
    """Documents with secrets in wrong places, while it runs; then the good one again."""
    good = gateway.config.read_text()
    secret: Node = {"store": {"type": "redis", "url": f"redis://canary:{REDIS_PASSWORD}@127.0.0.1/0"}}
    wrong: list[str] = [
        json.dumps(secret),
        json.dumps({"identity": {"key": "canary"}, "encryption": {"keys": [{"id": "a", "key": "canary"}]}}),
        json.dumps({"password": REDIS_PASSWORD, "identity": {"keyy": IDENTITY_KEY}}),
        json.dumps({"store": {"type": "redis", "url": "redis://127.0.0.1", "password": [REDIS_PASSWORD]}}),
        "identity: {key: *canary}\n",
        'identity: {key: "canary\n',
        "canary",
        "",
    ]
    for number, document in enumerate(wrong, start=1):
        gateway.config.write_text(document)
        give_up = time.monotonic() + 20
        while json.loads(get(gateway, "/stats"))["requests"] is None or refused(gateway) < number:
            assert time.monotonic() < give_up, f"{document!r} was not refused"
            time.sleep(0.02)
    gateway.config.write_text(good)


def refused(gateway: Gateway) -> int:
    """How many documents were refused."""
    for line in get(gateway, "/metrics").splitlines():
        if line.startswith(b'aicache_config_reloads_total{result="failed"}'):
            return int(float(line.rpartition(b" ")[2]))
    return 0


def administer(gateway: Gateway) -> dict[str, bytes]:
    """All pages, calls that act, and calls without the right token."""
    pages = {path: get(gateway, path) for path in PAGES}
    wrong = "canary-admin-tokem"
    pages |= {f"{path} as another": get(gateway, path, token=wrong) for path in ("/config", "/entries", "/canary")}
    listed = get(gateway, "/entries")
    for facts in json.loads(listed)["entries"]:
        pages[f"entry {facts['id']}"] = get(gateway, f"/entries/{facts['id']}")
    bodies: list[object] = [
        {"filter": {"tag": "canary"}, "dry_run": "canary"},
        {"filter": "canary"},
        ["canary"],
        {"filter": {"all": True}},
    ]
    for number, body in enumerate(bodies):
        pages[f"purge {number}"] = get(gateway, "/purge", method="POST", body=body)
    pages["flush"] = get(gateway, "/flush", method="POST", body={})
    assert b"budgerigar" in listed
    return pages | {"entries": listed}


def settings(tmp_path: Path, collector: Collector, store: Node, *, encrypted: bool) -> Node:
    """Every secret there is, in files and in the document."""
    token = tmp_path / "token"
    token.write_text(ADMIN_TOKEN + "\n")
    key = {"id": "a", "key": ENCRYPTION_KEY.hex()}
    return {
        "store": store,
        "log": {"level": "debug"},
        "identity": {"key": IDENTITY_KEY},
        "admin_access": {"token_file": str(token)},
        "encryption": {"keys": [key] if encrypted else []},
        "tracing": {"endpoint": collector.url, "interval_ms": 20, "authorization": f"Bearer {COLLECTOR_TOKEN}"},
        "prices": [{"model": "gpt-*", "input_per_million": 1}],
        "envoy": {"message_timeout_ms": 500, "max_message_timeout_ms": 10_000},
        "embedder": PATIENT_EMBEDDED | {"timeout_ms": 2000, "chars_max": 200},
        "rules": [{"name": "default", "layers": ["exact", "semantic"]}],
    }


@contextlib.contextmanager
def running(folder: Path, config: Node) -> Iterator[Gateway]:
    """A gateway over the sidecar with planted bugs."""
    with Gateway(folder, config, launch=("tests.support.faulty_sidecar",)) as gateway:
        yield gateway


@pytest.mark.slow
@pytest.mark.parametrize("encrypted", [True, False], ids=["sealed", "clear"])
def test_nothing_that_is_written_gives_anything_away(tmp_path: Path, encrypted: bool) -> None:
    """Logs, metrics, pages and spans never; Redis' dump does unless the answers are encrypted."""
    acl = f"user default on >{REDIS_PASSWORD} ~* &* +@all"
    options = ["rdbcompression no"]
    with Collector() as collector, RedisServer(tmp_path / "redis", acl=acl, options=options) as redis:
        store = redis_store(redis.port, password=REDIS_PASSWORD)
        config = settings(tmp_path, collector, store, encrypted=encrypted)
        with running(tmp_path, config) as gateway:
            use(gateway)
            redis.cli("SAVE")
            spoil(redis)
            post(gateway, question())
            pages = administer(gateway)
            abuse(gateway)
            misconfigure(gateway)
            redis.kill()
            for _ in range(8):
                post(gateway, question(seed=1))
            pages |= {f"{path} later": get(gateway, path) for path in PAGES}
            log, access = gateway.sidecar.log, gateway.folder / "access.log"
        spans = b"".join(post.body for post in collector.posts)
        assert {f"Bearer {COLLECTOR_TOKEN}"} == {post.headers["authorization"] for post in collector.posts}
    written = {"log": log.read_bytes(), "access log": access.read_bytes(), "spans": spans}
    # There was something to be found, and everything was looked at that should have been.
    for word in (
        b"exchange_fault",
        b"fill_fault",
        b"config_refused",
        b"lookup_failed",
        b"admin_purge",
        b"answer_refused",
    ):
        assert word in written["log"], word
    assert b"aicache.outcome" in spans
    paths = {name: page.replace(b"/canary", b"") for name, page in pages.items()}
    assert {} == found_in({**written, **paths})
    assert {} == found_in({**written, "metrics": pages["/metrics"] + pages["/stats later"]}, b"budgerigar")
    dump = (tmp_path / "redis" / "dump.rdb").read_bytes()
    assert b"budgerigar" in dump
    assert ({"dump"} if not encrypted else set()) == set(found_in({"dump": dump}))


def spoil(redis: RedisServer) -> None:
    """Put what is no entry, and the entry of another key, where entries are."""
    with redis.client() as client:
        keys = [key for key in client.scan_iter("aicache:*") if client.type(key) == b"string"]
        values = [client.get(key) for key in keys]
        for number, key in enumerate(keys):
            client.set(key, b"canary" if number % 2 else values[number - 1] or b"canary", keepttl=True)


@pytest.mark.parametrize("encrypted", [True, False], ids=["sealed", "clear"])
def test_sqlite_gives_nothing_away_when_encrypted(tmp_path: Path, encrypted: bool) -> None:
    """Neither the file nor its log of writes; its clear columns hold keys that tell nothing."""
    with Collector() as collector:
        store: Node = {"type": "sqlite", "path": str(tmp_path / "cache.db")}
        with running(tmp_path, settings(tmp_path, collector, store, encrypted=encrypted)) as gateway:
            gateway.upstream.fresh(upstream_says)
            assert "MISS" == status_of(post(gateway, question()))
            assert 1 == gateway.entries()
            files = {path.name: path.read_bytes() for path in tmp_path.glob("cache.db*")}
            log = gateway.sidecar.log
    files |= {f"{path.name} at last": path.read_bytes() for path in tmp_path.glob("cache.db*")}
    assert any(b"budgerigar" in content for content in files.values())
    assert encrypted is not bool(found_in(files))
    assert {} == found_in({"log": log.read_bytes()})


def test_a_crash_at_the_start_quotes_nothing(tmp_path: Path) -> None:
    """What ends the process is one line with a traceback, whatever its message would quote."""
    with Collector() as collector:
        config = settings(tmp_path, collector, {"type": "memory"}, encrypted=True)
        document = tmp_path / "aicache.yaml"
        document.write_text(json.dumps({**config, "listen": "127.0.0.1:0", "admin": None}))
        command = [sys.executable, "-m", "tests.support.faulty_sidecar", "serve", "--config", str(document)]
        ended = subprocess.run(
            command, cwd=ROOT, env={**os.environ, FAULT: "canary-crash"}, capture_output=True, timeout=50, check=False
        )
    assert 0 != ended.returncode
    assert b"process_crashed" in ended.stderr
    assert b"RuntimeError" in ended.stderr
    assert {} == found_in({"stdout": ended.stdout, "stderr": ended.stderr})


@pytest.mark.parametrize("command", ["check", "serve --config", "explain --request REQUEST --config"])
def test_the_command_line_quotes_no_secret_of_a_document(tmp_path: Path, command: str) -> None:
    """Good documents and bad ones; `explain` reads a question too."""
    with Collector() as collector:
        good = settings(tmp_path, collector, {"type": "memory"}, encrypted=True)
    request = tmp_path / "question.json"
    request.write_bytes(question())
    documents: list[Node] = [
        {**good, "store": {"type": "redis", "url": f"redis://a:{REDIS_PASSWORD}@127.0.0.1"}},
        {**good, "identity": {"key": "canary"}},
        {**good, "tracing": {"endpoint": "http://a:canary@b:1", "authorization": "canary\n"}},
        {**good, "admin_access": {"token": "canary"}},
        *([] if command.startswith("serve") else [good]),
    ]
    for number, config in enumerate(documents):
        document = tmp_path / f"document-{number}.json"
        document.write_text(json.dumps(config))
        words = [str(request) if word == "REQUEST" else word for word in command.split()]
        ended = subprocess.run(
            [sys.executable, "-m", "ai_cache_extproc", *words, str(document)],
            cwd=ROOT,
            capture_output=True,
            timeout=50,
            check=False,
        )
        assert (0 if config is good else 1) == ended.returncode, ended.stderr
        assert {} == found_in({"stdout": ended.stdout, "stderr": ended.stderr})
