"""Which API each kind of remote embedder speaks."""

from __future__ import annotations

from typing import assert_never

from ai_cache_extproc.config import embedders as config
from ai_cache_extproc.embedders.azure_openai import AzureOpenAI
from ai_cache_extproc.embedders.cohere import Cohere
from ai_cache_extproc.embedders.dashscope import DashScope
from ai_cache_extproc.embedders.huggingface import HuggingFace
from ai_cache_extproc.embedders.ollama import Ollama
from ai_cache_extproc.embedders.openai import OpenAI
from ai_cache_extproc.embedders.remote import Api
from ai_cache_extproc.embedders.textin import Textin
from ai_cache_extproc.embedders.xfyun import Xfyun


def api_of(settings: config.RemoteEmbedder) -> Api:
    """The API that the settings name."""
    match settings:
        case config.OpenAIEmbedder():
            return OpenAI(settings)
        case config.AzureOpenAIEmbedder():
            return AzureOpenAI(settings)
        case config.DashScopeEmbedder():
            return DashScope(settings)
        case config.CohereEmbedder():
            return Cohere(settings)
        case config.OllamaEmbedder():
            return Ollama(settings)
        case config.HuggingFaceEmbedder():
            return HuggingFace(settings)
        case config.TextinEmbedder():
            return Textin(settings)
        case config.XfyunEmbedder():
            return Xfyun(settings)
        case _:
            assert_never(settings)
