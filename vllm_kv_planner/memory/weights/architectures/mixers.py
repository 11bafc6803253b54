"""What stands in attention's place: delta nets and Mamba, from their cache layers' sizes.

Source: vLLM 0.33 ``layers/mamba/``, ``models/qwen3_next.py``, ``models/kimi_k3/``,
``models/glm5next/``.
"""

from __future__ import annotations

from ....model.layers.delta_net import GatedDeltaNet, KimiDeltaAttention
from ....model.layers.mamba import Mamba1, Mamba2
from ..modules import Block, Linear, Module, Norm, Weight
from ..modules.grouped import GroupedConv, GroupedLinear
from .facts import Facts


def delta_net(facts: Facts, layer: GatedDeltaNet) -> Block:
    """``GatedDeltaNetAttention`` of Qwen3-Next and Qwen3.5."""
    keys = layer.num_key_heads * layer.key_head_dim
    values = layer.num_value_heads * layer.value_head_dim
    heads, hidden = layer.num_value_heads, facts.hidden
    children: tuple[Module, ...] = (
        Linear("in_proj_qkvz", hidden, (keys, keys, values, values)),
        Linear("in_proj_ba", hidden, (heads, heads)),
        Weight("conv1d.weight", (2 * keys + values, 1, layer.conv_kernel), sharded=0),
        Weight("dt_bias", (heads,), sharded=0),
        Weight("A_log", (heads,), sharded=0, dtype="float32"),
        Norm("norm", layer.value_head_dim, part="linear attention"),
        Linear("out_proj", values, (hidden,), "row"),
    )
    return Block("linear_attn", children, part="linear attention")


def mamba1(facts: Facts, layer: Mamba1) -> Block:
    """``MambaMixer``. Option of the row: ``mamba_norms`` (dt, B and C have norms)."""
    text = facts.text
    inner, state, hidden = layer.intermediate_size, layer.state_size, facts.hidden
    rank = text.get("mamba_dt_rank", "time_step_rank")
    steps = rank if isinstance(rank, int) else -(-hidden // 16)
    bias = bool(text.get("mamba_proj_bias", "use_bias"))
    children: list[Module] = [
        Linear("in_proj", hidden, (inner, inner), bias=bias),
        Weight("conv1d.weight", (inner, 1, layer.conv_kernel), sharded=0),
        Linear("x_proj", inner, (steps + 2 * state,), "row"),
        Linear("dt_proj", steps, (inner,), bias=True, quantised=False),
        Weight("A", (inner, state), sharded=0, dtype="float32"),
        Weight("D", (inner,), sharded=0),
        Linear("out_proj", inner, (hidden,), "row", bias=bias),
    ]
    if text.get("mamba_conv_bias", "use_conv_bias") is not False:
        children.append(Weight("conv1d.bias", (inner,), sharded=0))
    if facts.flag("mamba_norms"):
        sizes = {"dt_layernorm": steps, "b_layernorm": state, "c_layernorm": state}
        children += [Norm(name, size, part="mamba") for name, size in sizes.items()]
    return Block(facts.label("mamba", "mixer"), tuple(children), part="mamba")


def mamba2(facts: Facts, layer: Mamba2) -> Block:
    """``MambaMixer2``: groups fewer than GPUs are replicated."""
    text = facts.text
    inner, groups, state = layer.intermediate_size, layer.n_groups, layer.state_size
    heads, hidden = layer.num_heads, facts.hidden
    bias = bool(text.get("mamba_proj_bias", "use_bias"))
    children: list[Module] = [
        GroupedLinear("in_proj", hidden, (inner, inner), groups, 2 * state, heads, bias=bias),
        GroupedConv("conv1d", inner, groups, 2 * state, layer.conv_kernel, _conv_bias(facts)),
        Weight("A", (heads,), sharded=0, dtype="float32"),
        Weight("D", (heads,), sharded=0),
        Weight("dt_bias", (heads,), sharded=0),
        Linear("out_proj", inner, (hidden,), "row", bias=bias),
        Weight("norm.weight", (inner,), sharded=0),
    ]
    return Block(facts.label("mamba", "mixer"), tuple(children), part="mamba")


def _conv_bias(facts: Facts) -> bool:
    return facts.text.get("mamba_conv_bias", "use_conv_bias") is not False


def kimi_delta(facts: Facts, layer: KimiDeltaAttention) -> Block:
    """Delta attention of Kimi-K3 and GLM-5.3-Flash: float32 convolutions.

    Options of the row: ``delta`` is ``k3`` (a gate of full rank where the config says so, decode
    copies) or ``low_rank`` (a gate of low rank, three convolutions).
    """
    width, hidden = layer.num_heads * layer.head_dim, facts.hidden
    size, kernel, heads = layer.head_dim, layer.conv_kernel, layer.num_heads
    children: list[Module] = [
        Weight("dt_bias", (width,), sharded=0, dtype="float32"),
        Weight("A_log", (heads,), sharded=0, dtype="float32"),
        Linear("f_b_proj", size, (width,)),
        Norm("o_norm", size, part="linear attention"),
        Linear("o_proj", width, (hidden,), "row"),
        Weight("conv1d.weight", (3 * width, 1, kernel), sharded=0, dtype="float32"),
    ]
    own = facts.text.opt_sub("linear_attn_config")
    if (
        facts.options.get("delta") == "k3"
        and own is not None
        and own.bool("use_full_rank_gate", default=False)
    ):
        merged: tuple[int, ...] = (width, width, width, width, heads)
        children.append(Linear("in_proj_qkvgfab", hidden, merged, replicated=(size,), align=16))
        if facts.capability >= (9, 0):  # copies for the decode kernel
            children += [
                Weight("decode_conv1d_weight", (3, kernel, width), sharded=2, dtype="float32"),
                Weight("decode_norm_weight", (size,), dtype="float32"),
            ]
    else:
        merged = (width, width, width, heads)
        children += [
            Linear("in_proj_qkvbfg_a", hidden, merged, replicated=(size, size)),
            Linear("g_b_proj", size, (width,)),
        ]
    return Block("self_attn", tuple(children), part="linear attention")
