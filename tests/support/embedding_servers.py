"""Stand-ins for embedding APIs, written from their vendors' documentation.

Each refuses what the documentation does not name: another path, another key of the body, a wrong or missing
credential. Vectors come from the text alone, and are not of unit length, so that who uses them has to see to it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import re
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from tests.support.http_service import Asked, Told

KEY = "k-1234567890abcdef"
SECRET = "s-fedcba0987654321"
APP_ID = "app-42"
DIMENSIONS = 8
SKEW_S_MAX = 300

Vector = list[float | None]


def vector_of(text: str, dimensions: int = DIMENSIONS) -> Vector:
    """What a model says of a text: always the same, never of length 1."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    chance = random.Random(seed)
    return [chance.uniform(-3, 3) for _ in range(dimensions)]


class Vendor:
    """A stand-in. make: gives the vector of a text; tests replace it."""

    type: str

    def __init__(self) -> None:
        self.make: Callable[[str, int], Vector] = vector_of
        self.key = KEY

    def settings(self, url: str) -> dict[str, object]:
        """The section of the document that fits."""
        raise NotImplementedError

    def __call__(self, asked: Asked) -> Told:
        """Answer as the vendor does."""
        raise NotImplementedError

    def _bearer(self, asked: Asked) -> bool:
        return asked.headers.get("authorization") == f"Bearer {self.key}"

    def _vectors(self, texts: Sequence[str], dimensions: int | None = None) -> list[Vector]:
        return [self.make(text, dimensions or DIMENSIONS) for text in texts]


def _is_texts(value: object, most: int) -> bool:
    return isinstance(value, list) and 0 < len(value) <= most and all(isinstance(text, str) for text in value)


def _error(status: int, code: str) -> Told:
    return Told(status, {"error": {"message": f"no: {KEY} is not right for what you asked", "code": code}})


class OpenAI(Vendor):
    """POST /v1/embeddings; `data` comes in no particular order."""

    type = "openai"

    def settings(self, url: str) -> dict[str, object]:
        return {"type": "openai", "url": f"{url}/v1", "api_key": KEY}

    def __call__(self, asked: Asked) -> Told:
        if (asked.method, asked.target) != ("POST", "/v1/embeddings"):
            return _error(404, "unknown_url")
        if not self._bearer(asked):
            return _error(401, "invalid_api_key")
        body = asked.json
        if not isinstance(body.get("model"), str) or not _is_texts(body.get("input"), 2048):
            return _error(400, "invalid_request_error")
        if body.keys() - {"model", "input", "dimensions"}:
            return _error(400, "unknown_parameter")
        return Told(body=_openai_answer(self._vectors(body["input"], body.get("dimensions")), body["model"]))


def _openai_answer(vectors: Sequence[Vector], model: str) -> object:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"object": "list", "data": data[::-1], "model": model, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


class AzureOpenAI(Vendor):
    """The `v1` API with the deployment in the body, or a dated one with it in the path. The key is in `api-key`."""

    type = "azure_openai"
    deployment = "my embeddings"

    def settings(self, url: str) -> dict[str, object]:
        return {"type": "azure_openai", "url": url, "api_key": KEY, "model": self.deployment}

    def __call__(self, asked: Asked) -> Told:
        parts = urlsplit(asked.target)
        if asked.headers.get("api-key") != self.key:
            return _error(401, "401")
        body = asked.json
        dated = re.fullmatch(r"/openai/deployments/([^/]+)/embeddings", parts.path)
        if dated is not None:
            if unquote(dated[1]) != self.deployment:
                return _error(404, "DeploymentNotFound")
            if not re.fullmatch(r"\d{4}-\d\d-\d\d(-preview)?", parse_qs(parts.query).get("api-version", [""])[0]):
                return _error(404, "404")
            allowed = {"input", "dimensions"}
        elif parts.path == "/openai/v1/embeddings":
            if body.get("model") != self.deployment:
                return _error(404, "DeploymentNotFound")
            allowed = {"model", "input", "dimensions"}
        else:
            return _error(404, "404")
        if body.keys() - allowed or not _is_texts(body.get("input"), 2048):
            return _error(400, "invalid_request_error")
        return Told(body=_openai_answer(self._vectors(body["input"], body.get("dimensions")), self.deployment))


class DashScope(Vendor):
    """Ten texts at most; `text_index` says which."""

    type = "dashscope"

    def settings(self, url: str) -> dict[str, object]:
        return {"type": "dashscope", "url": url, "api_key": KEY}

    def __call__(self, asked: Asked) -> Told:
        if (asked.method, asked.target) != ("POST", "/api/v1/services/embeddings/text-embedding/text-embedding"):
            return Told(404, {"code": "NotFound", "message": "", "request_id": "1"})
        if not self._bearer(asked):
            return Told(401, {"code": "InvalidApiKey", "message": f"Invalid {KEY}", "request_id": "1"})
        body = asked.json
        texts, parameters = body.get("input", {}).get("texts"), body.get("parameters", {})
        known = parameters.get("text_type") in {"query", "document"} and not parameters.keys() - {
            "text_type",
            "dimension",
        }
        if body.keys() != {"model", "input", "parameters"} or not known or not _is_texts(texts, 10):
            return Told(400, {"code": "InvalidParameter", "message": "", "request_id": "1"})
        vectors = self._vectors(texts, parameters.get("dimension"))
        found = [{"text_index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        return Told(body={"output": {"embeddings": found[::-1]}, "usage": {"total_tokens": 1}, "request_id": "1"})


class Cohere(Vendor):
    """POST /v2/embed, 96 texts at most, vectors under the name of their type."""

    type = "cohere"

    def settings(self, url: str) -> dict[str, object]:
        return {"type": "cohere", "url": url, "api_key": KEY}

    def __call__(self, asked: Asked) -> Told:
        if (asked.method, asked.target) != ("POST", "/v2/embed"):
            return Told(404, {"message": "not found"})
        if not self._bearer(asked):
            return Told(401, {"id": "1", "message": f"invalid api token {KEY}"})
        body = asked.json
        fits = body.get("input_type") in {"search_document", "search_query", "classification", "clustering"}
        fits = fits and body.get("truncate") == "NONE" and body.get("embedding_types") == ["float"]
        names = {"model", "texts", "input_type", "embedding_types", "truncate", "output_dimension"}
        if not fits or body.keys() - names or not _is_texts(body.get("texts"), 96):
            return Told(400, {"message": "invalid request"})
        vectors = self._vectors(body["texts"], body.get("output_dimension"))
        return Told(body={"id": "1", "texts": body["texts"], "embeddings": {"float": vectors}, "meta": {}})


class Ollama(Vendor):
    """POST /api/embed, without a key."""

    type = "ollama"

    def settings(self, url: str) -> dict[str, object]:
        return {"type": "ollama", "url": url}

    def __call__(self, asked: Asked) -> Told:
        if (asked.method, asked.target) != ("POST", "/api/embed"):
            return Told(404, b"404 page not found")
        # Ollama itself asks for none; whoever puts a proxy in front does.
        if self.key != KEY and not self._bearer(asked):
            return Told(401, {"error": "unauthorized"})
        body = asked.json
        if (
            body.keys() - {"model", "input", "truncate", "dimensions", "keep_alive"}
            or body.get("truncate") is not False
        ):
            return Told(400, {"error": "invalid options"})
        if not _is_texts(body.get("input"), 2048):
            return Told(400, {"error": "invalid input type"})
        vectors = self._vectors(body["input"], body.get("dimensions"))
        return Told(body={"model": body["model"], "embeddings": vectors, "total_duration": 1, "prompt_eval_count": 1})


class HuggingFace(Vendor):
    """POST /models/MODEL/pipeline/feature-extraction; the answer is the bare vectors."""

    type = "huggingface"

    def settings(self, url: str) -> dict[str, object]:
        return {"type": "huggingface", "url": f"{url}/hf-inference", "api_key": KEY}

    def __call__(self, asked: Asked) -> Told:
        path = "/hf-inference/models/sentence-transformers/all-MiniLM-L6-v2/pipeline/feature-extraction"
        if (asked.method, asked.target) != ("POST", path):
            return Told(404, {"error": "Model not found"})
        if not self._bearer(asked):
            return Told(401, {"error": f"Invalid credentials {KEY} in Authorization header"})
        body = asked.json
        if body.keys() != {"inputs"} or not _is_texts(body["inputs"], 32):
            return Told(422, {"error": "cannot be deserialized"})
        return Told(body=self._vectors(body["inputs"]))


class Textin(Vendor):
    """Two headers; what is wrong comes with status 200 and a code in the body."""

    type = "textin"

    def settings(self, url: str) -> dict[str, object]:
        return {"type": "textin", "url": url, "app_id": APP_ID, "app_secret": KEY, "dimensions": DIMENSIONS}

    def __call__(self, asked: Asked) -> Told:
        if (asked.method, asked.target) != ("POST", "/ai/service/v1/acge_embedding"):
            return Told(404, {"code": 404, "message": "not found"})
        if (asked.headers.get("x-ti-app-id"), asked.headers.get("x-ti-secret-code")) != (APP_ID, self.key):
            return Told(body={"code": 40102, "message": f"{KEY} is invalid"})
        body = asked.json
        if body.keys() != {"input", "matryoshka_dim"} or not _is_texts(body["input"], 50):
            return Told(body={"code": 40004, "message": "parameter error"})
        dimensions = body["matryoshka_dim"]
        result = {"embedding": self._vectors(body["input"], dimensions), "matryoshka_dim": dimensions}
        return Told(body={"code": 200, "message": "success", "result": result, "duration": 1})


class Xfyun(Vendor):
    """A URL signed with the time, one text, and a vector as base64 of little-endian float32."""

    type = "xfyun"

    def settings(self, url: str) -> dict[str, object]:
        return {"type": "xfyun", "url": url, "app_id": APP_ID, "api_key": KEY, "api_secret": SECRET}

    def __call__(self, asked: Asked) -> Told:
        parts = urlsplit(asked.target)
        query = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=True).items()}
        if refused := self._unsigned(asked.method, parts.path, query, asked.headers["host"]):
            return refused
        body = asked.json
        feature = body["parameter"]["emb"]
        if body["header"] != {"app_id": APP_ID, "status": 3} or feature["domain"] not in {"query", "para"}:
            return Told(body={"header": {"code": 10313, "message": "invalid appid", "sid": "1"}})
        messages = orjson.loads(base64.b64decode(body["payload"]["messages"]["text"], validate=True))
        ((message,),) = messages.values()
        if message.keys() != {"content", "role"} or message["role"] != "user":
            return Told(body={"header": {"code": 10163, "message": "parameter error", "sid": "1"}})
        values = [float("nan") if value is None else value for value in self.make(message["content"], DIMENSIONS)]
        text = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
        found = {"encoding": "utf8", "compress": "raw", "format": "plain", "text": text}
        return Told(body={"header": {"code": 0, "message": "success", "sid": "1"}, "payload": {"feature": found}})

    def _unsigned(self, method: str, path: str, query: Mapping[str, str], host: str) -> Told | None:
        """The refusal, if the signature is not the one that these lines give."""
        if query.keys() != {"host", "date", "authorization"} or query["host"] != host:
            return Told(401, {"message": "Unauthorized"})
        if abs(parsedate_to_datetime(query["date"]).timestamp() - time.time()) > SKEW_S_MAX:
            return Told(403, {"message": "HMAC signature cannot be verified, a valid date is required"})
        words = dict(re.findall(r'(\w+)="([^"]*)"', base64.b64decode(query["authorization"], validate=True).decode()))
        lines = f"host: {host}\ndate: {query['date']}\n{method} {path} HTTP/1.1"
        digest = hmac.new(SECRET.encode(), lines.encode(), hashlib.sha256).digest()
        expected = {
            "api_key": self.key,
            "algorithm": "hmac-sha256",
            "headers": "host date request-line",
            "signature": base64.b64encode(digest).decode(),
        }
        return None if words == expected else Told(401, {"message": "HMAC signature cannot be verified"})


VENDORS: tuple[type[Vendor], ...] = (
    OpenAI,
    AzureOpenAI,
    DashScope,
    Cohere,
    Ollama,
    HuggingFace,
    Textin,
    Xfyun,
)


def texts_of(asked: Any) -> int:
    """How many texts a request of any vendor holds."""
    body = asked.json
    for name in ("input", "texts", "inputs"):
        if name in body:
            value = body[name]
            return len(value["texts"] if isinstance(value, dict) else value)
    return 1
