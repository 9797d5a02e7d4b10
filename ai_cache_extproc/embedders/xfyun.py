"""iFlytek's text embedding: signed URLs, and vectors as base64 of little-endian float32."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import orjson

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.embedders import XfyunEmbedder
from ai_cache_extproc.embedders.remote import ApiRefusal

_SIGNED = "host date request-line"
# Licensed requests per second or per day used up, and faults of the service.
_PASSING = frozenset({10010, 10012, 10110, 10222, 11201, 11202, 11203})


class Xfyun:
    """An Api. One text in a call."""

    batch_max = 1
    model = "xfyun-embedding"

    def __init__(self, settings: XfyunEmbedder, *, clock: Callable[[], float] = time.time) -> None:
        """clock: seconds since the epoch."""
        parts = urlsplit(settings.url)
        self.dimensions: int | None = None
        self.variant: str = settings.domain
        self._host = parts.netloc
        # The default has no path, and is asked for "/".
        self._base = parts.path
        self._path = "" if parts.path else "/"
        self._app_id = settings.app_id
        self._key = Credential(settings.type, settings.api_key, settings.api_key_file)
        self._secret = Credential(settings.type, settings.api_secret, settings.api_secret_file)
        self._clock = clock

    def headers(self) -> Mapping[str, str]:
        """None: the signature is in the URL."""
        return {}

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """A URL signed for this moment."""
        date = formatdate(self._clock(), usegmt=True)
        query = urlencode({"host": self._host, "date": date, "authorization": self._authorization(date)})
        messages = {"messages": [{"content": texts[0], "role": "user"}]}
        body = {
            "header": {"app_id": self._app_id, "status": 3},
            "parameter": {"emb": {"domain": self.variant, "feature": {"encoding": "utf8"}}},
            "payload": {"messages": {"text": base64.b64encode(orjson.dumps(messages)).decode()}},
        }
        return f"{self._path}?{query}", body

    def _authorization(self, date: str) -> str:
        lines = f"host: {self._host}\ndate: {date}\nPOST {self._base or '/'} HTTP/1.1"
        digest = hmac.new(self._secret.text().encode(), lines.encode(), hashlib.sha256).digest()
        signature = base64.b64encode(digest).decode()
        words = f'api_key="{self._key.text()}", algorithm="hmac-sha256", headers="{_SIGNED}", signature="{signature}"'
        return base64.b64encode(words.encode()).decode()

    def vectors(self, answer: Any) -> object:  # noqa: ANN401
        """`payload.feature.text`, if `header.code` is 0: errors come with status 200 too."""
        code = answer["header"]["code"]
        if code != 0:
            raise ApiRefusal(code, passing=code in _PASSING)
        content = base64.b64decode(answer["payload"]["feature"]["text"], validate=True)
        return np.frombuffer(content, dtype="<f4").reshape(1, -1)
