"""Chunked prefill, prefix caching and what follows from it for Mamba layers: vLLM 0.33.

Restates ``is_chunked_prefill_supported``, ``is_prefix_caching_supported`` (vllm/config/model.py),
``_set_default_chunked_prefill_and_prefix_caching_args`` (vllm/engine/arg_utils.py),
``MambaModelConfig`` (vllm/model_executor/models/config.py) and the hybrid KV cache manager's
rules (``VllmConfig.__post_init__``, vllm/config/vllm.py).
"""

from __future__ import annotations

from ..errors import InputError
from ..records import dataclass
from .engine_args import EngineArgs
from .environment import EngineEnvironment
from .facts import ModelFacts

_MAMBA_ARCHITECTURES = ("MambaForCausalLM", "Mamba2ForCausalLM", "FalconMambaForCausalLM")
# Architectures whose rule switches prefix caching off, whatever the user says.
_NEVER_PREFIX_CACHING = ("UnlimitedOCRForCausalLM",)


@dataclass(frozen=True)
class CachingMode:
    """How requests share and fill the cache."""

    enable_prefix_caching: bool
    enable_chunked_prefill: bool
    """As the scheduler sees it: off for encoder-decoder models whatever the user says."""
    mamba_cache_mode: str
    """none, or align (states kept at block boundaries) with prefix caching."""
    mamba_block_size: int | None
    """Tokens a state stands for; None: the attention block's size, once that is known."""


def resolve_caching_mode(args: EngineArgs, facts: ModelFacts, *, max_model_len: int) -> CachingMode:
    """The user's choices, or the model kind's defaults. Raises InputError in vLLM's words."""
    prefix = args.enable_prefix_caching
    chunked = args.enable_chunked_prefill
    if prefix is None:
        prefix = supports_prefix_caching(facts)
    if chunked is None:
        chunked = supports_chunked_prefill(facts)
    if args.mm_encoder_only or facts.architecture in _NEVER_PREFIX_CACHING:
        prefix = False
    mode, block = "none", args.mamba_block_size
    if facts.is_hybrid or facts.architecture in _MAMBA_ARCHITECTURES:
        if prefix and not chunked:
            raise InputError("Chunked prefill is required for Mamba prefix caching")
        mode = "align" if prefix else "none"
        if block is None and not prefix:
            block = max_model_len
    if args.mamba_block_size is not None and not prefix and block != max_model_len:
        raise InputError("--mamba-block-size can only be set with --enable-prefix-caching")
    if facts.is_encoder_decoder:
        chunked = False
    if mode == "align" and (args.disable_chunked_mm_input or facts.is_mm_prefix_lm):
        raise InputError(
            "Chunked MM input is required for Mamba prefix caching; "
            "leave --disable-chunked-mm-input out or use --no-enable-prefix-caching"
        )
    return CachingMode(prefix, chunked, mode, block)


def supports_chunked_prefill(facts: ModelFacts) -> bool:
    """The default of ``--enable-chunked-prefill`` for this model."""
    if facts.pooling is not None:
        if facts.attn_type == "decoder":
            return _pools_in_chunks(facts)
        return facts.attn_type not in ("encoder_only", "encoder_decoder")
    return facts.attn_type != "encoder_decoder"


def supports_prefix_caching(facts: ModelFacts) -> bool:
    """The default of ``--enable-prefix-caching`` for this model."""
    if facts.pooling is not None:
        return facts.attn_type == "decoder" and _pools_in_chunks(facts)
    return facts.attn_type in ("decoder", "hybrid")


def _pools_in_chunks(facts: ModelFacts) -> bool:
    pooling = facts.pooling
    return (
        pooling is not None
        and pooling.seq_pooling_type not in ("MEAN", "CLS")
        and pooling.tok_pooling_type != "STEP"
    )


def hybrid_manager_disabled(
    args: EngineArgs,
    facts: ModelFacts,
    environment: EngineEnvironment,
    *,
    draft_uses_eagle: bool = False,
    connector_supports_hybrid: bool | None = None,
) -> bool:
    """Whether sliding and chunked layers are counted as full ones.

    ``connector_supports_hybrid``: of the KV connector, None without one. Raises InputError
    where ``--enable-hybrid-kv-cache-manager`` cannot be had.
    """
    chunk = facts.text_config.get("attention_chunk_size")
    if facts.model_type in ("mimo_v2", "mimo_v2_flash"):
        chunk = None  # in its config, not in its layers
    must = chunk is not None and (
        draft_uses_eagle or not environment.allow_chunked_local_attn_with_hybrid_kv_cache
    )
    if args.disable_hybrid_kv_cache_manager is None:
        return must or connector_supports_hybrid is False
    if args.disable_hybrid_kv_cache_manager is False and must:
        raise InputError(
            "Hybrid KV cache manager was explicitly enabled but is not supported in this "
            "configuration; leave --enable-hybrid-kv-cache-manager out"
        )
    return args.disable_hybrid_kv_cache_manager
