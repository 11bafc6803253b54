"""Pasted lines and a model that the tests of ``engine_args/`` share."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from vllm_kv_planner.engine_args.facts import ModelFacts
from vllm_kv_planner.engine_args.serve_command import ServeCommand, parse_serve_command


def serve(line: str) -> ServeCommand:
    return parse_serve_command(f"vllm serve {line}")


def given_fields(line: str) -> dict[str, object]:
    """What a line sets, beside the model: the fields that differ from the defaults."""
    args = serve(f"org/model {line}").engine_args
    changed = {}
    for field in fields(args):
        factory = field.default_factory
        default = field.default if factory is MISSING else factory()
        if field.name != "model" and getattr(args, field.name) != default:
            changed[field.name] = getattr(args, field.name)
    return changed


def facts(**more: Any) -> ModelFacts:
    """Llama-3-8B, but for what is named."""
    text = {"max_position_embeddings": 8192, "model_type": "llama"}
    plain: dict[str, Any] = {
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "config": {"torch_dtype": "bfloat16", **text},
        "text_config": text,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_kv_heads": 8,
        "vocab_size": 128_256,
    }
    return ModelFacts(**{**plain, **more})
