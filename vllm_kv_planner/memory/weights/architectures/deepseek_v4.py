"""DeepSeek-V4: windowed and compressed latents, hyper-connections, hashed and routed experts.

Source: vLLM 0.33 ``models/deepseek_v4/attention.py``, ``compressor.py``, ``nvidia/model.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....kv_cache.spec import round_up
from ....model.layers.deepseek_v4 import CompressedLatents
from ....records import dataclass
from ..experts import RoutedExperts
from ..modules import Block, Linear, Module, Norm, Weight
from ..rank import Place, Tensor
from .attention import rotary
from .decoder import assemble
from .facts import Facts, WeightTree
from .feed_forward import mlp, num_experts


@dataclass(frozen=True)
class PaddedSinks:
    """``attn_sink`` of DeepSeek-V4: heads per GPU, padded to 64 or 128.

    Source: vLLM 0.33 ``models/deepseek_v4/attention.py`` ``get_padded_num_q_heads``.
    """

    name: str
    heads: int

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """One float32 a head."""
        heads = self.heads // place.rank.tensor_parallel_size
        yield place.tensor(self.name, (64 if heads <= 64 else 128,), "float32")


_INDEXED_RATIO = 4


def deepseek_v4(facts: Facts) -> WeightTree:
    """Every layer's attention by its compression, experts behind hashes or a router."""
    ratios = {
        layer.index: layer.compress_ratio or 0
        for layer in facts.description.layers
        if isinstance(layer, CompressedLatents)
    }
    blocks = {ratio: _attention(facts, ratio) for ratio in set(ratios.values())}
    hashed = facts.text.int("num_hash_layers", default=0, minimum=0)
    experts = {is_hashed: _experts(facts, is_hashed) for is_hashed in (True, False)}

    def layer(index: int) -> Sequence[Module]:
        return (blocks[ratios[index]], experts[index < hashed], *_around(facts))

    return assemble(facts, layer, everywhere=_head(facts), norms=False)


def mtp_layers(facts: Facts) -> Sequence[Module]:
    """Layers for multi-token prediction: a window alone, routed experts, a head of their own.

    Source: ``models/deepseek_v4/nvidia/mtp.py``.
    """
    hidden = facts.hidden
    block = (_attention(facts, 0, turns=False), _experts(facts, False), *_around(facts))
    children: tuple[Module, ...] = (
        *_head(facts),
        *(Norm(name, hidden) for name in ("enorm", "hnorm", "shared_head.norm")),
        Linear("e_proj", hidden, (hidden,), "none"),
        Linear("h_proj", hidden, (hidden,), "none"),
        Block("mtp_block", block),
    )
    return [
        Block(f"model.layers.{facts.num_layers + number}", children, "draft")
        for number in range(facts.text.int("num_nextn_predict_layers", default=1))
    ]


def _around(facts: Facts) -> tuple[Module, ...]:
    """What every layer has beside attention and experts."""
    norms = (Norm(name, facts.hidden) for name in ("attn_norm", "ffn_norm"))
    return (*hyper_connections(facts), *norms)


def _streams(facts: Facts) -> int:
    return facts.text.int("hc_mult", default=4)


def _head(facts: Facts) -> tuple[Module, ...]:
    streams = _streams(facts)
    return (
        Weight("hc_head_fn", (streams, streams * facts.hidden), dtype="float32"),
        Weight("hc_head_base", (streams,), dtype="float32"),
        Weight("hc_head_scale", (1,), dtype="float32"),
    )


def hyper_connections(facts: Facts) -> tuple[Module, ...]:
    """What mixes the residual streams before and after attention and experts."""
    streams = _streams(facts)
    rows = (2 + streams) * streams
    shapes = {"fn": (rows, streams * facts.hidden), "base": (rows,), "scale": (3,)}
    return tuple(
        Weight(f"hc_{where}_{name}", shape, dtype="float32")
        for where in ("attn", "ffn")
        for name, shape in shapes.items()
    )


def _attention(facts: Facts, ratio: int, *, turns: bool = True) -> Block:
    text, hidden, heads = facts.text, facts.hidden, facts.heads
    head_dim = text.int("head_dim", default=512)
    query, groups, rank = text.int("q_lora_rank"), text.int("o_groups"), text.int("o_lora_rank")
    turned = text.int("qk_rope_head_dim", default=64)
    children: list[Module] = [
        PaddedSinks("attn_sink", heads),
        Linear("fused_wqa_wkv", hidden, (query, head_dim), "none"),
        Linear("wq_b", query, (heads * head_dim,)),
        Linear("wo_a", heads * head_dim // groups, (groups * rank,)),
        Linear("wo_b", groups * rank, (hidden,), "row"),
        Norm("q_norm", query, part="attention"),
        Norm("kv_norm", head_dim, part="attention"),
    ]
    if turns:
        children.append(
            rotary(
                facts,
                turned,
                width=turned,
                deepseek=True,
                dtype="float32",
                variant="compressed" if ratio else "plain",
            )
        )
    if ratio:
        children.append(_compressor(hidden, head_dim, ratio))
    if ratio == _INDEXED_RATIO:
        count, width = text.int("index_n_heads"), text.int("index_head_dim")
        indexer: tuple[Module, ...] = (
            Linear("wq_b", query, (count * width,), "none"),
            Linear("weights_proj", hidden, (count,), "none", quantised=False),
            _compressor(hidden, width, ratio),
        )
        children.append(Block("indexer", indexer, part="indexer"))
    return Block("attn", tuple(children), part="attention")


def _compressor(hidden: int, width: int, ratio: int) -> Block:
    """Overlapping groups are twice as wide."""
    times = 2 if ratio == _INDEXED_RATIO else 1
    children: tuple[Module, ...] = (
        Weight("ape", (ratio, times * width), dtype="float32"),
        Linear("fused_wkv_wgate", hidden, (times * width, times * width), "none", quantised=False),
        Norm("norm", width, part="attention"),
    )
    return Block("compressor", children)


def _experts(facts: Facts, is_hashed: bool) -> Block:
    text, hidden = facts.text, facts.hidden
    count, width = num_experts(facts), text.int("moe_intermediate_size")
    shared = text.int("n_shared_experts", default=1, minimum=0) * width
    children: list[Module] = [Linear("gate", hidden, (count,), "none", quantised=False)]
    if is_hashed:
        table = (round_up(facts.vocab_size, 1), text.int("num_experts_per_tok"))
        children.append(Weight("gate.tid2eid", table, dtype="int32"))
    else:
        children.append(Weight("gate.e_score_correction_bias", (count,), dtype="float32"))
    if shared:
        children.append(mlp(facts, width=shared, name="shared_experts", part="shared experts"))
    children.append(RoutedExperts("experts", count, hidden, width, projections=("w1", "w3", "w2")))
    return Block("ffn", tuple(children), part="experts")
