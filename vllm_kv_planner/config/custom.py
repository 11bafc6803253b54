"""A model described by hand: ``--custom --layers 80 --kv-heads 8 --head-dim 128``."""

from __future__ import annotations

from ..errors import InputError
from .find import FoundConfig

LONGEST = 10_000_000
"""Tokens a hand-made model takes; it has no length of its own."""
LARGEST = 65_536
"""Largest count or width that makes sense."""


def custom_config(
    *, layers: int | None, kv_heads: int | None, head_dim: int | None, heads: int | None = None
) -> FoundConfig:
    """The config of a decoder with these layers, planned like any other.

    Args:
        layers: Decoder layers, all of full attention.
        kv_heads: KV heads of a layer.
        head_dim: Width of a head, in elements.
        heads: Query heads; as many as KV heads where not given.

    Raises:
        InputError: A figure is missing or makes no sense.
    """
    needed = {"--layers": layers, "--kv-heads": kv_heads, "--head-dim": head_dim}
    for flag, value in needed.items():
        if value is None:
            raise InputError(
                f"--custom needs --layers, --kv-heads and --head-dim; {flag} is missing"
            )
    for flag, value in {**needed, "--heads": heads}.items():
        if value is not None and not 0 < value <= LARGEST:
            raise InputError(f"{flag} {value}: a number from 1 to {LARGEST:,}")
    assert layers is not None and kv_heads is not None and head_dim is not None
    queries = heads or kv_heads
    if queries % kv_heads:
        raise InputError(f"--heads {queries}: must be a multiple of --kv-heads {kv_heads}")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "num_hidden_layers": layers,
        "num_attention_heads": queries,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_size": queries * head_dim,
        "intermediate_size": 4 * queries * head_dim,
        "vocab_size": 131_072,
        "max_position_embeddings": LONGEST,
    }
    name = f"custom: {layers} layers, {kv_heads} KV heads of {head_dim}"
    return FoundConfig(id=name, config=config, source="custom", revision=None, path=None, files={})
