"""Mamba states or short convolutions, alone or beside attention.

Source: vLLM 0.33 ``model_executor/models/``: ``mamba.py``, ``mamba2.py``, ``jamba.py``,
``granitemoehybrid.py``, ``falcon_h1.py``, ``zamba2.py``, ``lfm2.py``, ``lfm2_moe.py``,
``nemotron_h.py``; defaults from transformers' config classes of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UnsupportedError
from ...records import replace
from ..description import ModelReader
from ..layers.base import CacheLayer
from ..layers.mamba import Mamba1, Mamba2, ShortConv
from .blocks import (
    attention,
    block_types,
    by_type,
    even_head_size,
    everywhere,
    hybrid,
    no_cache,
    repeated,
)


def mamba1(model: ModelReader) -> Sequence[CacheLayer]:
    """Mamba and Falcon-Mamba: a state in every layer."""
    text = model.text
    expanded = text.int("expand", default=2) * text.int("hidden_size", default=768)
    layer = Mamba1(
        intermediate_size=text.int("intermediate_size", default=expanded),
        state_size=text.int("state_size", default=16),
        conv_kernel=text.int("conv_kernel", default=4, minimum=0),
    )
    return everywhere(model, layer)


def mamba2(model: ModelReader) -> Sequence[CacheLayer]:
    """Mamba 2 (Codestral Mamba): a state in every layer."""
    text = model.text
    expanded = text.int("expand", default=2) * text.int("hidden_size", default=4096)
    layer = Mamba2(
        intermediate_size=text.int("intermediate_size", default=expanded),
        n_groups=text.int("n_groups", default=8),
        num_heads=text.int("num_heads", default=128),
        head_dim=text.int("head_dim", default=64),
        state_size=text.int("state_size", default=128),
        conv_kernel=text.int("conv_kernel", default=4, minimum=0),
    )
    return everywhere(model, layer)


def no_caches(model: ModelReader) -> Sequence[CacheLayer]:
    """Encoders whose attention and convolutions see the whole text at once (LFM2 embeddings)."""
    return ()


def jamba(model: ModelReader) -> Sequence[CacheLayer]:
    """Jamba: one attention layer a period, Mamba 1 otherwise."""
    text = model.text
    period = text.int("attn_layer_period", default=8)
    offset = text.int("attn_layer_offset", default=4, minimum=0)
    for kind in ("attn", "expert"):  # JambaConfig.validate_architecture
        own = text.int(f"{kind}_layer_offset", default=4 if kind == "attn" else 1, minimum=0)
        every = text.int(f"{kind}_layer_period", default=8 if kind == "attn" else 2)
        if own >= every:
            key = f"{kind}_layer_offset"
            raise text.error(key, f"({own}) must be smaller than {kind}_layer_period ({every})")
    types = [
        "full_attention" if index % period == offset else "linear_attention"
        for index in range(model.num_hidden_layers)
    ]
    mamba = Mamba1(
        intermediate_size=text.int("mamba_expand", default=2) * text.int("hidden_size"),
        state_size=text.int("mamba_d_state", default=16),
        conv_kernel=text.int("mamba_d_conv", default=4, minimum=0),
    )
    plain = attention(model, head_size=even_head_size(model))
    return hybrid(model, types, plain, mamba)


def mamba_of_blocks(model: ModelReader) -> Mamba2:
    """Mamba 2 as Granite 4 and Falcon-H1 spell it."""
    text = model.text
    inner = text.int("mamba_expand", default=2) * text.int("hidden_size")
    heads = text.int("mamba_n_heads", default=128)
    head_dim = text.get("mamba_d_head")
    return Mamba2(
        intermediate_size=inner,
        n_groups=text.int("mamba_n_groups", default=1),
        num_heads=heads,
        head_dim=inner // heads if head_dim in (None, "auto") else text.int("mamba_d_head"),
        state_size=text.int("mamba_d_state", default=256),
        conv_kernel=text.int("mamba_d_conv", default=4, minimum=0),
    )


def granite(model: ModelReader) -> Sequence[CacheLayer]:
    """Granite 4: Mamba 2 with attention between, or attention alone (its micro sizes)."""
    types = block_types(model, default=["linear_attention"] * model.num_hidden_layers)
    plain = attention(model, head_size=even_head_size(model))
    make = {"full_attention": repeated(plain)}
    if "linear_attention" in types:
        make["linear_attention"] = repeated(mamba_of_blocks(model))
    return by_type(model, types, make)


def falcon_h1(model: ModelReader) -> Sequence[CacheLayer]:
    """Falcon-H1: attention and Mamba 2 side by side in every layer."""
    text = model.text
    mamba = mamba_of_blocks(model)
    if text.get("mamba_d_ssm") is not None or "mamba_d_ssm" not in text.data:
        inner = text.int("mamba_d_ssm", default=1024)
        head_dim = text.get("mamba_d_head")
        mamba = replace(
            mamba,
            intermediate_size=inner,
            head_dim=mamba.head_dim if isinstance(head_dim, int) else inner // mamba.num_heads,
        )
    return everywhere(model, attention(model), mamba)


def zamba2(model: ModelReader) -> Sequence[CacheLayer]:
    """Zamba 2: Mamba 2 everywhere; attention blocks share weights, each with its own cache.

    vLLM builds the attention first, block by block of shared weights.
    """
    text = model.text
    hidden = text.int("hidden_size", default=2560)
    inner = text.int("mamba_expand", default=2) * hidden
    heads = text.int("n_mamba_heads", default=8)
    mamba = Mamba2(
        intermediate_size=inner,
        n_groups=text.int("mamba_ngroups", default=1),
        num_heads=heads,
        head_dim=inner // heads,
        state_size=text.int("mamba_d_state", default=64),
        conv_kernel=text.int("mamba_d_conv", default=4, minimum=0),
    )
    shared = replace(
        attention(model, head_size=text.int("attention_head_dim")),
        num_kv_heads=model.num_attention_heads,
    )
    types = block_types(model, "layers_block_type", default=ZAMBA2_BLOCKS)
    hybrid = [index for index, kind in enumerate(types) if kind == "hybrid"]
    copies = text.int("num_mem_blocks", default=1)
    states = by_type(model, types, {"linear_attention": repeated(mamba), "hybrid": repeated(mamba)})
    first = [replace(shared, index=i) for copy in range(copies) for i in hybrid[copy::copies]]
    return [*first, *states]


ZAMBA2_BLOCKS = (
    ["linear_attention"]
    + (["linear_attention"] * 5 + ["hybrid"]) * 7
    + (["linear_attention"] * 4 + ["hybrid"])
    + (["linear_attention"] * 3 + ["hybrid"])
    + ["linear_attention"] * 2
)
"""Blocks where the config lists none."""


def lfm2(model: ModelReader) -> Sequence[CacheLayer]:
    """LFM2 and its MoE: short convolutions with attention between."""
    text = model.text
    count = model.num_hidden_layers
    types = None
    if not text.has("layer_types"):
        full = text.list_of_ints("full_attn_idxs", default=range(count))
        types = ["full_attention" if index in full else "conv" for index in range(count)]
    conv = ShortConv(
        channels=text.int(str(model.options.get("conv_channels", "hidden_size"))),
        conv_kernel=text.int("conv_L_cache", default=3),
    )
    plain = attention(model, head_size=even_head_size(model))
    make = {"full_attention": repeated(plain), "conv": repeated(conv)}
    return by_type(model, block_types(model, "layer_types", default=types), make)


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
