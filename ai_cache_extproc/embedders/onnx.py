"""A model of the operator's own: a folder with `model.onnx` and `tokenizer.json` (onnxruntime and tokenizers)."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np

from ai_cache_extproc.config.embedders import OnnxEmbedder
from ai_cache_extproc.embedders.base import CHECKED_TEXT, identity_of
from ai_cache_extproc.embedders.local import threads_of
from ai_cache_extproc.errors import ConfigError

INSTALL: Final = "pip install 'ai-cache-extproc[onnx]'"
_MODEL: Final = "model.onnx"
_TOKENIZER: Final = "tokenizer.json"
_INPUTS: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class OnnxModel:
    """A Model. Its identity holds a digest of both files: another model in the same folder is another embedder."""

    def __init__(self, settings: OnnxEmbedder, *, session: Any, tokenizer: Any) -> None:  # noqa: ANN401
        self.name = settings.path.name
        self._settings = settings
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = frozenset(each.name for each in session.get_inputs())
        self.dimensions: int = np.asarray(self.encode(CHECKED_TEXT)).shape[-1]
        digest = _digest(settings.path)
        self.identity = identity_of("onnx", self.name, digest, self.dimensions, settings.prefix, settings.pooling)

    def encode(self, text: str) -> object:
        """One vector. Raises ValueError for a text of too many tokens."""
        encoded = self._tokenizer.encode(self._settings.prefix + text)
        if len(encoded.ids) > self._settings.tokens_max:
            raise ValueError(f"{len(encoded.ids)} tokens are more than {self._settings.tokens_max} (`tokens_max`)")
        values = {
            "input_ids": encoded.ids,
            "attention_mask": encoded.attention_mask,
            "token_type_ids": encoded.type_ids,
        }
        fed = {name: np.asarray([values[name]], dtype=np.int64) for name in self._inputs}
        output = np.asarray(self._session.run(None, fed)[0])[0]
        if output.ndim == 1:
            return output
        if self._settings.pooling == "cls":
            return output[0]
        mask = np.asarray(encoded.attention_mask, dtype=np.float32)[:, None]
        return (output * mask).sum(axis=0) / max(float(mask.sum()), 1.0)


def load(settings: OnnxEmbedder) -> OnnxModel:
    """The model. Blocks while it is read. Raises ConfigError for a folder, a file or a model of no use."""
    for module in ("onnxruntime", "tokenizers"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError("embedder.type", f"onnx needs {module}; {INSTALL}")
    for name in (_MODEL, _TOKENIZER):
        if not (settings.path / name).is_file():
            raise ConfigError("embedder.path", f'"{settings.path}" holds no {name}; both files must be there')
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads_of(settings)
    options.inter_op_num_threads = 1
    # Threads that spin while they have nothing to do take a core from the one that serves.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(str(settings.path / _MODEL), options, providers=["CPUExecutionProvider"])
        tokenizer: Any = importlib.import_module("tokenizers").Tokenizer.from_file(str(settings.path / _TOKENIZER))
        # The file may say to cut long texts, or to fill short ones.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        unknown = {each.name for each in session.get_inputs()} - _INPUTS
        if unknown:
            raise ConfigError(
                "embedder.path", f"the model wants {', '.join(sorted(unknown))}, which no tokenizer gives"
            )
        return OnnxModel(settings, session=session, tokenizer=tokenizer)
    except ConfigError:
        raise
    # Neither library says what it raises: tokenizers raises Exception itself.
    except Exception as error:
        raise ConfigError("embedder.path", f'"{settings.path}" cannot be loaded: {error}') from error


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name in (_MODEL, _TOKENIZER):
        with (folder / name).open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
