"""Embedders for tests: settings from plain mappings, and a tiny real ONNX model with its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from ai_cache_extproc.config.embedders import Embedder
from ai_cache_extproc.config.section import Section

ALPHABET = "abcdefghijklmnopqrstuvwxyz 星是什么月亮"
DIMENSIONS = 12


class _Document(Section):
    embedder: Embedder


def embedder_settings(section: Mapping[str, object]) -> Any:
    """The section as the document would have it."""
    return _Document.model_validate({"embedder": section}).embedder


def write_onnx_model(folder: Path, *, pooled: bool = False, inputs: tuple[str, ...] = ("attention_mask",)) -> Path:
    """A model whose tokens are letters, with fixed random vectors; it gives one per letter, or their sum if `pooled`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {letter: index for index, letter in enumerate(["?", "^", *ALPHABET])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.post_processor = TemplateProcessing(single="^ $A", special_tokens=[("^", vocabulary["^"])])
    # As many exports have it; a text must not be cut or filled for that.
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(7).normal(size=(len(vocabulary), DIMENSIONS)).astype(np.float32)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    others = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["tokens_out"], axis=0)]
    constants = {"table": table}
    output = "tokens_out"
    shape: list[str | int | None] = ["batch", "tokens", DIMENSIONS]
    if pooled:
        constants["axis"] = np.array([1], dtype=np.int64)
        nodes.append(helper.make_node("ReduceSum", ["tokens_out", "axis"], ["text_out"], keepdims=0))
        output, shape = "text_out", ["batch", DIMENSIONS]
    graph = helper.make_graph(
        nodes,
        "letters",
        [ids, *others],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    return folder
