"""TextIn's acge embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ai_cache_extproc.clients.credential import Credential
from ai_cache_extproc.config.embedders import TextinEmbedder
from ai_cache_extproc.embedders.remote import ApiRefusal

_GOOD = 200
# Too many requests, a basic service that failed, and a fault of theirs.
_PASSING = frozenset({40306, 30203, 500})


class Textin:
    """An Api. The model's name is not sent; there is one."""

    batch_max = 50
    model = "acge"

    def __init__(self, settings: TextinEmbedder) -> None:
        self.dimensions: int | None = settings.dimensions
        self.variant = ""
        self._app_id = settings.app_id
        self._secret = Credential(settings.type, settings.app_secret, settings.app_secret_file)

    def headers(self) -> Mapping[str, str]:
        """`x-ti-app-id` and `x-ti-secret-code`."""
        return {"x-ti-app-id": self._app_id, "x-ti-secret-code": self._secret.text()}

    def request(self, texts: Sequence[str]) -> tuple[str, object]:
        """The length of the vectors belongs to every request."""
        return "/ai/service/v1/acge_embedding", {"input": list(texts), "matryoshka_dim": self.dimensions}

    def vectors(self, answer: Any) -> object:  # noqa: ANN401
        """`result.embedding`, if `code` is 200: errors come with status 200 too."""
        code = answer["code"]
        if code != _GOOD:
            raise ApiRefusal(code, passing=code in _PASSING)
        return answer["result"]["embedding"]
