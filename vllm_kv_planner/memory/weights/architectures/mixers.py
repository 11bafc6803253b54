"""What stands in plain attention's place: latent attention, delta nets and Mamba.

Source: vLLM 0.33 ``layers/mamba/mamba_mixer2.py``, ``mamba_utils.py``
``extra_groups_for_head_shards``; ``models/qwen3_next.py``, ``models/kimi_k3/``,
``models/glm5next/``; ``models/deepseek_v2.py`` ``DeepseekV2MLAAttention``, ``Indexer``;
``layers/mla.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ....model.layers.delta_net import GatedDeltaNet, KimiDeltaAttention
from ....model.layers.mamba import Mamba1, Mamba2
from ....records import dataclass
from ..modules import AttentionScales, Block, Heads, Linear, Module, Norm, Weight
from ..rank import Place, Tensor
from .attention import rotary
from .facts import Facts


@dataclass(frozen=True)
class GroupedConv:
    """Mamba 2's ``conv1d`` over inputs, B and C."""

    name: str
    divided: int
    groups: Heads
    kernel: int
    bias: bool

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weight and bias, in the engine's dtype."""
        size = place.rank.tensor_parallel_size
        inside = place.at(self.name)
        width = self.divided // size + self.groups.share(size)
        yield inside.tensor("weight", (width, 1, self.kernel))
        if self.bias:
            yield inside.tensor("bias", (width,))


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
    conv_bias = text.get("mamba_conv_bias", "use_conv_bias")
    each, both = Heads(groups, state), Heads(groups, 2 * state)
    children: list[Module] = [
        Linear("in_proj", hidden, (inner, inner, each, each, heads), bias=bias, takes_lora=False),
        GroupedConv("conv1d", inner, both, layer.conv_kernel, conv_bias is not False),
        Weight("A", (heads,), sharded=0, dtype="float32"),
        Weight("D", (heads,), sharded=0),
        Weight("dt_bias", (heads,), sharded=0),
        Linear("out_proj", inner, (hidden,), "row", bias=bias),
        Weight("norm.weight", (inner,), sharded=0),
    ]
    return Block(facts.label("mamba", "mixer"), tuple(children), part="mamba")


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
        merged = (width, width, width, width, heads, Heads(1, size))
        children.append(Linear("in_proj_qkvgfab", hidden, merged, align=16))
        if facts.capability >= (9, 0):  # copies for the decode kernel
            children += [
                Weight("decode_conv1d_weight", (3, kernel, width), sharded=2, dtype="float32"),
                Weight("decode_norm_weight", (size,), dtype="float32"),
            ]
    else:
        low_rank = (width, width, width, heads, Heads(1, size), Heads(1, size))
        children += [
            Linear("in_proj_qkvbfg_a", hidden, low_rank),
            Linear("g_b_proj", size, (width,)),
        ]
    return Block("self_attn", tuple(children), part="linear attention")


def latent_attention(facts: Facts, *, indexer: bool = True, rope: bool = True) -> Block:
    """The attention block. Down projections are replicated, up projections divided by heads.

    Options of the row: ``attention``, ``o``, ``attn`` (names), ``output_gate`` (the first
    projection makes a gate too), ``sparse_scales``.
    """
    text = facts.text
    latent = text.int("kv_lora_rank")
    turned = text.int("qk_rope_head_dim", minimum=0)
    plain = text.int("qk_nope_head_dim", minimum=0)
    value = text.int("v_head_dim")
    query = text.opt_int("q_lora_rank")
    heads, hidden = facts.heads, facts.hidden
    width = heads * (plain + turned)
    bias = facts.flag("latent_bias")
    children: list[Module] = []
    if query:
        children += [
            Linear("fused_qkv_a_proj", hidden, (query, latent + turned), "none", bias=bias),
            Norm("q_a_layernorm", query, part="attention"),
            Linear("q_b_proj", query, (width,)),
        ]
    else:
        children += [
            Linear("kv_a_proj_with_mqa", hidden, (latent + turned,), "none", bias=bias),
            Linear("q_proj", hidden, (width,)),
        ]
    children += [
        Norm("kv_a_layernorm", latent, part="attention"),
        Linear("kv_b_proj", latent, (heads * (plain + value),)),
        Linear("o_proj", heads * value, (hidden,), "row", bias=bias),
    ]
    if indexer and text.opt_int("index_topk"):
        children.append(indexer_block(facts, query or hidden))
    if rope:
        children.append(rotary(facts, turned, width=turned, deepseek=True))
    children.append(AttentionScales(is_latent=True))
    return Block(facts.label("attention", "self_attn"), tuple(children), part="attention")


def indexer_block(facts: Facts, query: int) -> Block:
    """The indexer: replicated, its keys and weights in the model's dtype."""
    text = facts.text
    heads, width = text.int("index_n_heads"), text.int("index_head_dim")
    children: tuple[Module, ...] = (
        Linear("wq_b", query, (heads * width,), "none"),
        Linear("wk_weights_proj", facts.hidden, (width + heads,), "none", quantised=False),
        Weight("k_norm.weight", (width,), dtype="float32"),
        Weight("k_norm.bias", (width,), dtype="float32"),
    )
    return Block("indexer", children, part="indexer")
