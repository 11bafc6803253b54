"""What one rank of an engine runs, as far as its memory depends on it: steps and widths."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..engine_args.setup import EngineSetup
from ..records import dataclass
from .phase import round_up
from .versions import VersionRules

MIB = 1 << 20
_DTYPE_BYTES = {"float32": 4, "float64": 8}
_VOCAB_PADDING = 64  # DEFAULT_VOCAB_PADDING_SIZE of vocab_parallel_embedding.py


@dataclass(frozen=True, kw_only=True, eq=False)
class Rank:
    """One rank: every tensor-parallel rank of a pipeline stage is alike."""

    setup: EngineSetup
    rules: VersionRules
    stage: int = 0

    @property
    def tp(self) -> int:
        """Ranks a layer is divided among."""
        return self.setup.args.tensor_parallel_size

    @property
    def is_first(self) -> bool:
        """Embeds tokens and runs the multimodal encoder."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Computes logits and samples."""
        return self.stage == self.setup.args.pipeline_parallel_size - 1

    @cached_property
    def uses_v2(self) -> bool:
        """Model Runner V2."""
        setup = self.setup
        return self.rules.uses_v2(
            setup.resolved.runner.uses_v2,
            setup.model.architecture,
            is_moe=setup.model.is_moe,
            is_hybrid=setup.model.is_hybrid,
            quantized=setup.facts.quantization is not None,
        )

    @property
    def tokens(self) -> int:
        """Tokens of the profiled forward pass.

        Model Runner V2 leaves room for the token more that an independent draft model takes of
        every request (``_dummy_run``).
        """
        batch, draft = self.setup.resolved.batch, self.setup.draft
        tokens = batch.max_num_batched_tokens
        if draft is None or draft.method != "draft_model" or not self.uses_v2:
            return tokens
        return max(tokens - min(tokens, batch.max_num_seqs), 1)

    @property
    def rows(self) -> int:
        """Requests sampled in the profile: ``_dummy_run`` makes min(tokens, max_num_seqs)."""
        batch, speculative = self.setup.resolved.batch, self.setup.resolved.speculative
        tokens = batch.max_num_batched_tokens
        if speculative is not None and speculative.method == "dflash" and self.uses_v2:
            tokens //= speculative.num_lookahead_tokens  # it asks so many of every request
        return min(tokens, batch.max_num_seqs)

    @property
    def vocab(self) -> int:
        """Columns of the logits after the padding is cut off."""
        return self.setup.model.vocab_size

    @property
    def padded_vocab(self) -> int:
        """Columns the output layer computes, all ranks together."""
        return round_up(self.vocab, _VOCAB_PADDING)

    @cached_property
    def element(self) -> int:
        """Bytes of an activation."""
        return _DTYPE_BYTES.get(self.setup.resolved.dtype.name, 2)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.setup.model.hidden_size

    @cached_property
    def shapes(self) -> LayerShapes:
        """The widest decoder layer's widths on this rank."""
        return layer_shapes(self.setup)

    @property
    def blas_workspace(self) -> int:
        """cuBLAS's workspace, which PyTorch allocates at the first matrix product.

        Source: PyTorch ``aten/src/ATen/cuda/CublasHandlePool.cpp`` ``parseChosenWorkspaceSize``:
        32 MiB on Hopper and data-centre Blackwell, else 8 MiB and 128 KiB. From vLLM 0.33 on
        it exists before the first snapshot and is not counted.
        """
        if self.rules.blas_workspace_before_profile:
            return 0
        large = self.setup.gpu.cuda_capability[0] in (9, 10)
        return 32 * MIB if large else 8 * MIB + 128 * 1024

    @property
    def intermediate_tensors(self) -> int:
        """Hidden states and residual that a later pipeline stage keeps room for.

        Model Runner V1 makes them during the profile run; V2 with the model, before it.
        """
        if self.is_first:
            return 0
        return 2 * self.tokens * self.hidden * self.element


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOP_K = ("num_experts_per_tok", "moe_topk", "top_k_experts", "moe_k", "num_experts_per_token")
_EXPERT_WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_hidden_dim")
_MLP_WIDTH = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "ffn_intermediate_size")
_NOT_GATED = frozenset(
    f"{name}ForCausalLM"
    for name in (
        *("Phi", "OPT", "Falcon", "RW", "GPTNeoX", "Bloom", "GPTJ", "Starcoder2"),
        *("GPTBigCode", "Nemotron", "MPT", "NemotronH"),
    )
) | {"BertModel", "GPT2LMHeadModel", "PersimmonForCausalLM", "RobertaModel"}


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
    """The widest layer of the decoder, by the names that HF configs use.

    What a config does not say is guessed only where the guess is the usual one, and ``is_guess``
    then says so.
    """
    text, model, tp = setup.model.text_config, setup.model, setup.args.tensor_parallel_size
    hidden = model.hidden_size
    head_size = 0
    if model.num_attention_heads and not model.use_mla:
        head_size = max(model.head_size, _int(text, "global_head_dim") or 0)
    width = _int(text, *_MLP_WIDTH)
    gated = model.architecture not in _NOT_GATED
    inner = (width or 4 * hidden) // tp
    mixer_in, mixer_out = _mixer(text, hidden)
    experts = _experts(setup, gated)
    return LayerShapes(
        hidden=hidden,
        query=model.num_attention_heads * head_size // tp,
        key_value=2 * max(1, model.num_kv_heads // tp) * head_size,
        mlp_up=inner * (2 if gated else 1),
        mlp_down_in=inner,
        mixer_in=mixer_in // tp,
        mixer_out=mixer_out // tp,
        experts=experts,
        latent=_latent(setup),
        has_dense_layers=experts is None or _some_dense(text),
        is_guess=width is None,
    )


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
    """Whether a mixture of experts also has plain layers."""
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
