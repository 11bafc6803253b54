"""What attention backends are asked with, and what each declares about itself: a row of the tables.

Source of the blocks that kernels run: vLLM 0.33 ``v1/attention/backend.py`` ``MultipleOf``,
``supports_block_size``, ``get_preferred_block_size`` and
``model_executor/layers/attention/attention.py`` ``_largest_kernel_block_within``.
"""

from __future__ import annotations

from collections.abc import Callable

from ...kv_cache.specs import AttentionSpec
from ...model.layers.base import BackendRequest
from ...records import dataclass


@dataclass(frozen=True)
class KernelBlock:
    """A block size a kernel takes.

    Attributes:
        tokens: The size, in tokens.
        multiples: Whether every multiple of it will do as well.
    """

    tokens: int
    multiples: bool = False


KernelBlocks = tuple[KernelBlock, ...]
ANY_BLOCK: KernelBlocks = (KernelBlock(1, multiples=True),)


def exactly(*tokens: int) -> KernelBlocks:
    """These sizes and no others."""
    return tuple(KernelBlock(size) for size in tokens)


def multiple_of(tokens: int) -> KernelBlocks:
    """Any multiple of ``tokens``."""
    return (KernelBlock(tokens, multiples=True),)


Capability = tuple[int, int]
"""Compute capability, as (major, minor)."""
AITER: tuple[Capability, ...] = ((9, 4), (9, 5))
"""CDNA 3 and 4 (MI300X to MI355X): where AITER's kernels are used without being asked for."""


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What some backends look up in the engine's config, beside the layer's own request.

    ``None`` is "not known": no backend is turned down for it.

    Attributes:
        head_size: The model's head size (vLLM's ``ModelConfig.get_head_size``), in elements.
        num_attention_heads: Query heads of the model on this rank.
        num_kv_heads: KV heads of the model on this rank; 1 with MLA.
        kv_cache_dtype: The engine's, resolved as far as the config goes.
        logits_soft_cap: Whether the model caps attention logits (Gemma 2).
        alibi: Whether its attention has ALiBi slopes (Bloom).
        is_mm_prefix_lm: Whether images attend in both directions somewhere in the model.
        is_diffusion: Whether it is a block-diffusion model.
        is_encoder_decoder: Whether an encoder's states are attended to (Whisper).
        rocm: Compute capability of an AMD GPU, whose backends are others; None on CUDA.
        xpu: Whether it is an Intel GPU, whose backends are others too.
        absent: Backends that an older version does not have.
        decode_context_parallel_size: Ranks that share one sequence's tokens in decode.
        prefill_context_parallel_size: The same in prefill.
        flash_attn_version: ``--attention-config.flash_attn_version``, or what the model's own
            config hook sets (``preferences.py``).
        use_trtllm_attention: ``--attention-config.use_trtllm_attention``.
        qk_nope_head_dim: MLA: width of a query head without rope.
        qk_rope_head_dim: MLA: width of the rope part.
        v_head_dim: MLA: width of a value head.
        kv_lora_rank: MLA: width of the latent.
        index_topk: Sparse MLA: tokens the indexer picks.
        index_kpool: Tokens that one row of a pooled indexer stands for (GLM-5.3).
    """

    head_size: int
    num_attention_heads: int = 0
    num_kv_heads: int = 0
    kv_cache_dtype: str = "auto"
    logits_soft_cap: bool = False
    alibi: bool = False
    is_mm_prefix_lm: bool = False
    is_diffusion: bool = False
    is_encoder_decoder: bool = False
    rocm: Capability | None = None
    xpu: bool = False
    absent: tuple[str, ...] = ()
    decode_context_parallel_size: int = 1
    prefill_context_parallel_size: int = 1
    flash_attn_version: int | None = None
    use_trtllm_attention: bool | None = None
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    kv_lora_rank: int | None = None
    index_topk: int | None = None
    index_kpool: int | None = None

    @classmethod
    def of_request(cls, request: BackendRequest, dcp: int = 1) -> EngineFacts:
        """As if every layer of the model were like this one."""
        return cls(
            head_size=request.head_size,
            num_attention_heads=request.num_heads,
            num_kv_heads=request.num_kv_heads,
            kv_cache_dtype=request.kv_cache_dtype,
            is_mm_prefix_lm=request.use_mm_prefix,
            decode_context_parallel_size=dcp,
        )


@dataclass(frozen=True)
class Situation:
    """One question to one backend.

    Attributes:
        request: What the layer needs.
        capability: Of the GPU.
        block_size: Tokens per block, where the user fixed it.
        facts: Of the engine.
    """

    request: BackendRequest
    capability: Capability
    block_size: int | None
    facts: EngineFacts


@dataclass(frozen=True)
class KernelQuestion:
    """Which blocks do your kernels take?

    vLLM asks twice: for the model as a whole, with the engine's config at hand, and later for one
    layer's spec, when the config is out of reach and its overrides are not seen.

    Attributes:
        capability: Of the GPU.
        head_size: Of the model, or of the spec.
        head_size_v: Width of a value where the question names one.
        kv_cache_dtype: The engine's, or the spec's.
        facts: The engine's; None where a spec is asked about.
        tokens_per_state: Of the spec: tokens that one stored row stands for; None without a spec.
        use_rswa: Whether the model uses reference sliding window attention.
    """

    capability: Capability
    head_size: int
    head_size_v: int | None
    kv_cache_dtype: str
    facts: EngineFacts | None
    tokens_per_state: int | None = None
    use_rswa: bool = False


Layouts = tuple[str, ...]
Flag = bool | Callable[[Situation], bool]

HALF = ("float16", "bfloat16")
UNQUANTISED = ("auto", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One backend, as vLLM 0.33's class of that name answers.

    Attributes:
        name: vLLM's ``get_name()``; for selectable ones also the ``--attention-backend`` value.
        dtypes: Model dtypes.
        kv_cache_dtypes: KV cache dtypes; empty for any.
        head_sizes: Head sizes, in elements; empty for any.
        runs_on: First and last of the compute capabilities it runs on; empty for any.
        blocks: Kernel block sizes, or the rule that gives them.
        exact_blocks: Whether a block that is cut into kernel blocks is refused.
        preferred: Tokens per block it wants instead of the default.
        head_size_v: Value width it goes by until a layer names one; None where only keys count.
        layouts: KV cache layouts, best first, or the rule; None takes any.
        mla: Latent attention (and nothing else).
        sparse: Sparse attention (and nothing else).
        sink: Learned attention sinks.
        sliding_window: Layers with a window.
        mm_prefix: Images that attend in both directions.
        non_causal: Layers that do not mask the future.
        rswa: Reference sliding window attention.
        per_head_scales: KV scales per head from the checkpoint.
        dcp: Decode context parallel.
        pcp: Prefill context parallel.
        non_causal_dcp: Non-causal latent attention together with DCP.
        attn_types: Of ``decoder``, ``encoder``, ``encoder_only``, ``encoder_decoder``.
        head_size_rule: Instead of ``head_sizes``.
        kv_cache_dtype_rule: Instead of ``kv_cache_dtypes``.
        combination: Why a combination of otherwise supported things is refused; None if not.
        pack: How it packs a layer's cache.
    """

    name: str
    dtypes: tuple[str, ...] = HALF
    kv_cache_dtypes: tuple[str, ...] = UNQUANTISED
    head_sizes: tuple[int, ...] = ()
    runs_on: tuple[tuple[Capability, Capability], ...] = ()
    blocks: KernelBlocks | Callable[[KernelQuestion], KernelBlocks] = ANY_BLOCK
    exact_blocks: bool = False
    preferred: int | None = None
    head_size_v: int | None = None
    layouts: Layouts | Callable[[Capability], Layouts | None] | None = None
    mla: bool = False
    sparse: bool = False
    sink: Flag = False
    sliding_window: bool = False
    mm_prefix: Flag = False
    non_causal: bool = False
    rswa: bool = False
    per_head_scales: Flag = False
    dcp: bool = False
    pcp: bool = False
    non_causal_dcp: bool = False
    attn_types: tuple[str, ...] = ("decoder",)
    head_size_rule: Callable[[int, Capability], bool] | None = None
    kv_cache_dtype_rule: Callable[[Situation], bool] | None = None
    combination: Callable[[Situation], str | None] | None = None
    pack: Callable[[AttentionSpec, Capability], AttentionSpec] | None = None


def holds(flag: Flag, situation: Situation) -> bool:
    """The flag's answer in this situation."""
    return flag(situation) if callable(flag) else flag
