"""Widths of a decoder layer's tensors on one rank, in elements a token.

They are read off the modules that hold the model's weights (``weights/architectures/``); for
architectures without such a rule, off the config.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..engine_args.setup import EngineSetup, Keyed
from ..errors import ConfigError, UnsupportedError
from ..model.config import Config
from ..model.description import ModelDescription
from ..records import dataclass, replace
from .weights import rank as weights
from .weights.architectures import build
from .weights.architectures.facts import Facts
from .weights.experts import RoutedExperts
from .weights.modules import Block, Heads, Linear, Module
from .weights.quantization.base import Quantization

_PLAIN = Quantization()
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOP_K = ("num_experts_per_tok", "moe_topk", "top_k_experts", "moe_k", "num_experts_per_token")
_EXPERT_WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_hidden_dim")
_MLP_WIDTH = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "ffn_intermediate_size")
_NOT_GATED = frozenset(
    ("RWForCausalLM", "NemotronForCausalLM", "MPTForCausalLM", "PersimmonForCausalLM")
)
"""Of the architectures whose weights have no rule."""


@dataclass(frozen=True, kw_only=True)
class ExpertShapes:
    """Routed experts as one rank runs them."""

    count: int
    """Experts of the whole model."""
    top_k: int
    up: int
    """Gate and up of one expert on this rank (``N`` of vLLM's kernels)."""
    down_in: int
    """Input of the down projection on this rank."""
    shared_up: int = 0
    shared_down_in: int = 0


@dataclass(frozen=True, kw_only=True)
class LatentShapes:
    """Latent attention (MLA) as one rank runs it."""

    heads: int
    qk_nope: int
    qk_rope: int
    value: int
    latent: int


@dataclass(frozen=True, kw_only=True)
class LayerShapes:
    """Widths on one rank."""

    hidden: int
    query: int
    """All query heads of this rank, which is what attention puts out."""
    key_value: int
    """Keys and values of this rank, together."""
    mlp_up: int
    """Gate and up projection together (up alone where the MLP has no gate)."""
    mlp_down_in: int
    projected: int
    """What attention projects the hidden state to: queries, keys, values, a gate."""
    mixer_in: int = 0
    """Input projection of a state-space or linear-attention layer."""
    mixer_out: int = 0
    experts: ExpertShapes | None = None
    latent: LatentShapes | None = None
    has_dense_layers: bool = True
    """Some layer has an MLP of its own, not experts alone."""
    is_guess: bool = False


def layer_shapes(setup: EngineSetup) -> LayerShapes:
    """The widest layer of the decoder: of its weights, or by the config where none are known."""
    args = setup.args
    ranks = args.data_parallel_size * args.prefill_context_parallel_size
    rank = weights.Rank(
        dtype="bfloat16",
        quantization=_PLAIN,
        tensor_parallel_size=args.tensor_parallel_size,
        expert_parallel_size=(
            args.tensor_parallel_size * ranks if args.enable_expert_parallel else 1
        ),
        beside=ranks,
    )
    try:
        return _of_tree(Keyed(setup.model, (id(setup.model),)), rank)
    except (UnsupportedError, ConfigError):
        return _of_config(setup)


@lru_cache(maxsize=64)
def _of_tree(described: Keyed, rank: weights.Rank) -> LayerShapes:
    model: ModelDescription = described.value
    text = Config(model.text_config, "config.json")
    top = Config(model.config, "config.json")
    tree = build(Facts(description=model, text=text, top=top, language_model_only=True))
    widest = _Widest(model, rank)
    for layer in tree.layers:
        widest.look_at(layer, "")
    experts = widest.experts
    # of low-rank queries (DeepSeek-V4's) the modules do not say what attention puts out
    query, key_value = head_widths(model, rank.tensor_parallel_size)
    projected, query, key_value = widest.attention or (query + key_value, query, key_value)
    return LayerShapes(
        hidden=model.hidden_size,
        query=query,
        key_value=key_value,
        projected=projected,
        mlp_up=widest.mlp[0],
        mlp_down_in=widest.mlp[1],
        mixer_in=widest.mixer[0],
        mixer_out=widest.mixer[1],
        experts=None
        if experts is None
        else replace(experts, shared_up=widest.shared[0], shared_down_in=widest.shared[1]),
        latent=_latent(model, rank.tensor_parallel_size),
        has_dense_layers=widest.mlp[0] > 0,
    )


class _Widest:
    """The widest block of each kind, found by going through the layers' modules.

    A pair is the width of a block's inner projections together, and of what its last one takes.
    """

    def __init__(self, model: ModelDescription, rank: weights.Rank) -> None:
        self.model, self.rank = model, rank
        self.attention: tuple[int, int, int] | None = None
        """What it projects to, what it puts out, and of the former keys and values together."""
        self.mlp = self.mixer = self.shared = (0, 0)
        self.experts: ExpertShapes | None = None
        self._seen: set[int] = set()

    def look_at(self, module: Module, part: str) -> None:
        """A module and all below it, which belongs to ``part`` of the weights."""
        if isinstance(module, RoutedExperts):
            shape, top_k = module.shape(self.rank), _int(self.model.text_config, *_TOP_K)
            if top_k:
                inner = shape.intermediate
                up = shape.shards * inner
                self.experts = ExpertShapes(
                    count=module.num_experts, top_k=top_k, up=up, down_in=inner
                )
        if not isinstance(module, Block) or id(module) in self._seen:
            return
        self._seen.add(id(module))
        part = module.part or part
        self._block([each for each in module.children if isinstance(each, Linear)], part)
        for child in module.children:
            self.look_at(child, part)

    def _block(self, linears: list[Linear], part: str) -> None:
        last = next((each for each in linears if each.shard == "row"), None)
        if last is None and part == "mlp" and linears:
            last = linears[-1]
        if last is None:
            return
        hidden, taken = self.model.hidden_size, last.shape(self.rank).inputs
        inner = [each for each in linears if each is not last and each.inputs == hidden]
        width = sum(each.shape(self.rank).rows for each in inner)
        if part in ("mamba", "linear attention"):
            self.mixer = max(self.mixer, (width, taken))
        elif part == "shared experts":
            self.shared = max(self.shared, (width, taken))
        elif part in ("", "mlp"):
            self.mlp = max(self.mlp, (width, taken))
        elif part == "attention" and all(each.inputs in (hidden, last.inputs) for each in linears):
            size = self.rank.tensor_parallel_size
            heads = (out for each in inner for out in each.outputs if isinstance(out, Heads))
            kept = sum(each.share(size) for each in heads)
            self.attention = max(self.attention or (0, 0, 0), (width, taken, kept))


def _experts(setup: EngineSetup, gated: bool) -> ExpertShapes | None:
    text, args = setup.model.text_config, setup.args
    count, top_k = _int(text, *_EXPERTS), _int(text, *_TOP_K)
    if not setup.model.is_moe or not count or not top_k:
        return None
    width = _int(text, *_EXPERT_WIDTH) or _int(text, *_MLP_WIDTH) or 4 * setup.model.hidden_size
    shared = _int(text, "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")
    if shared is None:
        shared = (_int(text, "n_shared_experts", "num_shared_experts") or 0) * width
    # without expert parallelism every GPU that runs the experts has a slice of each
    cut = args.tensor_parallel_size * args.data_parallel_size * args.prefill_context_parallel_size
    inner = width if args.enable_expert_parallel else width // cut
    shared //= args.tensor_parallel_size
    factor = 2 if gated else 1
    return ExpertShapes(
        count=count,
        top_k=top_k,
        up=inner * factor,
        down_in=inner,
        shared_up=shared * factor,
        shared_down_in=shared,
    )


def head_widths(model: ModelDescription, tp: int) -> tuple[int, int]:
    """All query heads of a rank; its keys and values together."""
    if not model.num_attention_heads or model.use_mla:
        return 0, 0
    size = max(model.head_size, _int(model.text_config, "global_head_dim") or 0)
    return model.num_attention_heads * size // tp, 2 * max(1, model.num_kv_heads // tp) * size


def _some_dense(text: Mapping[str, Any]) -> bool:
    """Whether a mixture of experts also has plain layers."""
    first = _int(text, "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
    every = _int(text, "decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq") or 1
    return bool(first or every > 1 or text.get("mlp_only_layers") or text.get("enable_moe_block"))


def _latent(model: ModelDescription, tp: int) -> LatentShapes | None:
    text = model.text_config
    nope, value = _int(text, "qk_nope_head_dim"), _int(text, "v_head_dim")
    if not model.use_mla or nope is None or value is None:
        return None
    return LatentShapes(
        heads=model.num_attention_heads // tp,
        qk_nope=nope,
        qk_rope=_int(text, "qk_rope_head_dim") or 0,
        value=value,
        latent=_int(text, "kv_lora_rank") or 0,
    )


def _mixer(text: Mapping[str, Any], hidden: int) -> tuple[int, int]:
    """Input projection and output of a state-space or linear-attention layer, whole model."""
    heads = _int(text, "linear_num_value_heads")
    if heads is not None:
        value = heads * (_int(text, "linear_value_head_dim") or 128)
        keys = (_int(text, "linear_num_key_heads") or heads) * (
            _int(text, "linear_key_head_dim") or 128
        )
        return 2 * keys + 2 * value, value
    heads = _int(text, "mamba_num_heads", "mamba_n_heads")
    if heads is not None:
        inner = heads * (_int(text, "mamba_head_dim", "mamba_d_head") or 64)
    elif (expand := _int(text, "mamba_expand", "expand")) is not None:
        inner = expand * hidden
    else:
        return 0, 0
    groups = _int(text, "n_groups", "mamba_n_groups") or 1
    state = _int(text, "ssm_state_size", "mamba_d_state", "state_size") or 16
    return 2 * inner + 2 * groups * state + (heads or 0), inner


def _int(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of ``names`` that holds a positive whole number (a list: its largest)."""
    for name in names:
        value = config.get(name)
        if isinstance(value, list):
            numbers = [v for v in value if isinstance(v, int) and not isinstance(v, bool)]
            value = max(numbers, default=None)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31:
            return value
    return None


def _of_config(setup: EngineSetup) -> LayerShapes:
    """By the names that HF configs use; ``is_guess`` where they say nothing of the MLP's width."""
    text, model, tp = setup.model.text_config, setup.model, setup.args.tensor_parallel_size
    hidden = model.hidden_size
    width = _int(text, *_MLP_WIDTH)
    gated = model.architecture not in _NOT_GATED
    inner = (width or 4 * hidden) // tp
    mixer_in, mixer_out = _mixer(text, hidden)
    experts = _experts(setup, gated)
    query, key_value = head_widths(model, tp)
    return LayerShapes(
        hidden=hidden,
        query=query,
        key_value=key_value,
        projected=query + key_value,
        mlp_up=inner * (2 if gated else 1),
        mlp_down_in=inner,
        mixer_in=mixer_in // tp,
        mixer_out=mixer_out // tp,
        experts=experts,
        latent=_latent(model, tp),
        has_dense_layers=experts is None or _some_dense(text),
        is_guess=width is None,
    )
