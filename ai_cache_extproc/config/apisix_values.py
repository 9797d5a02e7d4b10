"""The section of a rule that keeps entries as APISIX's ai-cache does, under the keys that APISIX computes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ai_cache_extproc.config.apisix_variables import Variable
from ai_cache_extproc.config.scope import IdentityPart
from ai_cache_extproc.config.section import Section

KEY_PREFIX = "ai-cache:l1:"
"""What the keys of its exact layer begin with."""


class ApisixOverride(Section):
    """`override` of ai-proxy, as it is written there."""

    endpoint: str | None = None
    llm_options: dict[str, object] | None = None
    request_body: dict[str, object] | None = None
    request_body_force_override: bool = False


class ApisixValues(Section):
    """Entries as APISIX's ai-cache keeps them in its exact layer (L1), each answer in clear.

    What ai-proxy adds to a question on its way is part of the key there, so it must be told here, and the upstream
    behind Envoy must add the same.
    """

    route_id: Annotated[str, Field(min_length=1)] | None = None
    """The id of the route there; null where routes share (`share_across_routes`)."""
    consumer: IdentityPart | None = None
    """Where the name of the consumer stands; null where consumers share."""
    variables: tuple[Variable, ...] = ()
    """The names of `include_vars`, in their order."""
    provider: str = Field("openai", min_length=1)
    """`provider` of ai-proxy."""
    options: dict[str, object] | None = None
    """`options` of ai-proxy, `model` among them where it is forced."""
    override: ApisixOverride | None = None
    """`override` of ai-proxy."""
    share: Literal["credential", "document"] = "credential"
    """`document`: as far as the scope above says, so that its entries are hits here and ours there. `credential`: each
    caller has their own besides, at the price of a warm Redis."""

    @property
    def model(self) -> object:
        """The model that is forced upon every question; None where the client chooses."""
        return None if self.options is None else self.options.get("model")
