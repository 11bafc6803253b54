"""Nemotron-H and Nemotron 3: Mamba 2, attention, MLPs and experts in blocks of their own.

Source: vLLM 0.33 ``model_executor/models/nemotron_h.py``; transformers ``NemotronHConfig``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UnsupportedError
from ...records import replace
from ..layers.base import CacheLayer
from ..layers.mamba import Mamba2
from .blocks import attention, block_types, by_type, no_cache, repeated
from .reader import ModelReader

LETTERS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
"""Block types of ``hybrid_override_pattern``."""


def nemotron_h_types(model: ModelReader) -> list[str]:
    """Nemotron-H's block types: a list, or a string with one letter a layer."""
    text = model.text
    if not text.has("layers_block_type", "layer_types"):
        pattern = text.opt_str("hybrid_override_pattern")
        if pattern is not None:
            return [LETTERS.get(letter, letter) for letter in pattern]
    return block_types(model, "layers_block_type", "layer_types")


def nemotron_h(model: ModelReader) -> Sequence[CacheLayer]:
    """Nemotron-H and Nemotron 3: Mamba 2, attention, MLPs and experts in blocks of their own."""
    text = model.text
    refuse_own_blocks(model)
    heads = text.int("mamba_num_heads", default=128)
    head_dim = text.int("mamba_head_dim", default=64)
    mamba = Mamba2(
        index=0,
        intermediate_size=heads * head_dim,
        n_groups=text.int("mamba_n_groups", "n_groups", default=8),
        num_heads=heads,
        head_dim=head_dim,
        state_size=text.int("ssm_state_size", default=128),
        conv_kernel=text.int("mamba_d_conv", "conv_kernel", default=4, minimum=0),
    )
    plain = replace(
        attention(model, head_size=text.int("head_dim", default=128)),
        sliding_window=text.opt_int("sliding_window"),
    )
    make = {
        "linear_attention": repeated(mamba),
        "full_attention": repeated(plain),
        "mlp": no_cache,
        "moe": no_cache,
    }
    return by_type(model, nemotron_h_types(model), make)


def refuse_own_blocks(model: ModelReader) -> None:
    """Refuse per-block sizes (Puzzle), which only the checkpoint's own code can read."""
    for index, block in enumerate(model.text.list_of_subs("block_configs")):
        kind = block.str("block_type", default="")
        if kind in ("mamba", "attention") and set(block.data) != {"block_type"}:
            raise UnsupportedError(
                f"{model.text.where}: block_configs[{index}] sizes its {kind} block by itself, "
                "in a form that only the checkpoint's own code reads; --planner vllm can answer"
            )
