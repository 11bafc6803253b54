"""What backends are asked with: the layer's request, the device, a few facts of the engine."""

from __future__ import annotations

from ...model.backend_request import BackendRequest
from ...records import dataclass

Capability = tuple[int, int]
"""Compute capability, as (major, minor)."""


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
