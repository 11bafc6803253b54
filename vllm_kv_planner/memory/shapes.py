"""Widths of a decoder layer's tensors on one rank, in elements a token.

Read from config.json by the names that HF configs use. What a config does not say is guessed
only where the guess is the usual one, and ``is_guess`` then says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine_args.setup import EngineSetup
from ..records import dataclass

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOP_K = ("num_experts_per_tok", "moe_topk", "top_k_experts", "moe_k", "num_experts_per_token")
_EXPERT_WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_hidden_dim")
_MLP_WIDTH = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "ffn_intermediate_size")
_NOT_GATED = frozenset(
    {
        *("PhiForCausalLM", "GPT2LMHeadModel", "OPTForCausalLM", "FalconForCausalLM"),
        *("RWForCausalLM", "GPTNeoXForCausalLM", "BloomForCausalLM", "GPTJForCausalLM"),
        *(
            "Starcoder2ForCausalLM",
            "GPTBigCodeForCausalLM",
            "NemotronForCausalLM",
            "MPTForCausalLM",
        ),
        *("NemotronHForCausalLM", "BertModel", "RobertaModel", "PersimmonForCausalLM"),
    }
)


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
    """All query heads of this rank."""
    key_value: int
    """Keys and values of this rank, together."""
    mlp_up: int
    """Gate and up projection together (up alone where the MLP has no gate)."""
    mlp_down_in: int
    mixer_in: int = 0
    """Input projection of a state-space or linear-attention layer."""
    mixer_out: int = 0
    experts: ExpertShapes | None = None
    latent: LatentShapes | None = None
    has_dense_layers: bool = True
    """Some layer has an MLP of its own, not experts alone."""
    is_guess: bool = False


def layer_shapes(setup: EngineSetup) -> LayerShapes:
    """The widest layer of the decoder."""
    text, model, tp = setup.model.text_config, setup.model, setup.args.tensor_parallel_size
    hidden = model.hidden_size
    kv_heads = max(1, model.num_kv_heads // tp)
    width = _int(text, *_MLP_WIDTH)
    gated = model.architecture not in _NOT_GATED
    inner = (width or 4 * hidden) // tp
    mixer_in, mixer_out = _mixer(text, hidden)
    experts = _experts(setup, gated)
    return LayerShapes(
        hidden=hidden,
        query=model.num_attention_heads * _head_size(setup) // tp,
        key_value=2 * kv_heads * _head_size(setup),
        mlp_up=inner * (2 if gated else 1),
        mlp_down_in=inner,
        mixer_in=mixer_in // tp,
        mixer_out=mixer_out // tp,
        experts=experts,
        latent=_latent(setup),
        has_dense_layers=experts is None or _some_dense(text),
        is_guess=width is None,
    )


def _head_size(setup: EngineSetup) -> int:
    model = setup.model
    if model.use_mla or not model.num_attention_heads:
        return 0
    wider = _int(model.text_config, "global_head_dim") or 0
    return max(model.head_size, wider)


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


def _some_dense(text: Mapping[str, Any]) -> bool:
    """Whether a mixture of experts also has plain layers, by the names HF configs use."""
    first = _int(text, "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
    every = _int(text, "decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq") or 1
    return bool(first or every > 1 or text.get("mlp_only_layers") or text.get("enable_moe_block"))


def _latent(setup: EngineSetup) -> LatentShapes | None:
    text = setup.model.text_config
    nope, value = _int(text, "qk_nope_head_dim"), _int(text, "v_head_dim")
    if not setup.model.use_mla or nope is None or value is None:
        return None
    return LatentShapes(
        heads=setup.model.num_attention_heads // setup.args.tensor_parallel_size,
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
