"""How the KV cache is kept: its dtype, prefix caching and chunked prefill, KV connectors.

Restates of vLLM 0.33: ``resolve_kv_cache_dtype_string`` (vllm/utils/torch_utils.py), the rules of
vllm/model_executor/models/config.py, ``Attention.__init__`` and ``MLAAttention.__init__``;
``is_chunked_prefill_supported`` and ``is_prefix_caching_supported`` (vllm/config/model.py),
``_set_default_chunked_prefill_and_prefix_caching_args`` (vllm/engine/arg_utils.py);
``VllmConfig.__post_init__`` and ``_post_init_kv_transfer_config`` (vllm/config/vllm.py); of
connectors distributed/kv_transfer/kv_connector/factory.py (the registry, ``supports_hma_config``)
and which classes are ``SupportsHMA``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, UnknownNameError, nearest
from ..records import dataclass
from .attention_backend import boundary_skip_layers
from .engine_args import EngineArgs, EngineEnvironment
from .facts import ModelFacts
from .quantization import (
    compressed_tensors_scheme,
    layer_quantization,
    modelopt_kv_cache_dtype,
)
from .versions import FIRST, TODAY, PlanningRules


@dataclass(frozen=True)
class KVCacheDtype:
    """A resolved KV cache dtype, by vLLM's name; ``auto`` is the model's own dtype."""

    name: str
    reason: str | None = None
    """Where it comes from when the user left it to vLLM."""


def resolve_kv_cache_dtype(
    requested: str,
    facts: ModelFacts,
    *,
    dtype: str,
    platform: str = "cuda",
    compute_capability: tuple[int, int] | None,
    rules: PlanningRules = TODAY,
) -> KVCacheDtype:
    """What ``cache_config.cache_dtype`` is once the layers are built.

    ``dtype`` is the model's resolved dtype. Sparse MLA may still rename it.
    Raises InputError in vLLM's words for a dtype that does not go with the model.
    """
    name, reason = requested, None
    if name == "auto" and facts.quantization_config is not None:
        name = modelopt_kv_cache_dtype(facts.quantization_config) or "auto"
        reason = "the checkpoint's ModelOpt config" if name != "auto" else None
    if name == "bfloat16" and facts.architecture == "DeepseekV32ForCausalLM":
        name = "auto"
    if name == "auto":
        default = _data_centre_blackwell_default(facts, platform, compute_capability, rules)
        if default is not None:
            name, reason = default, "vLLM's default for this model on this GPU"
    if name in ("float16", "bfloat16") and name != dtype:
        allowed = f"auto or {dtype}" if dtype in ("float16", "bfloat16") else "auto"
        raise InputError(
            f'--kv-cache-dtype: kv_cache_dtype="{name}" is incompatible with dtype="{dtype}"; '
            f"valid: {allowed}"
        )
    if name.startswith("nvfp4") and not name.endswith("_ds_mla") and facts.use_mla:
        raise InputError(
            f"--kv-cache-dtype: {name} KV cache is not supported with MLA (Multi-head Latent "
            "Attention); valid: auto, fp8, or nvfp4_ds_mla with a sparse MLA backend"
        )
    if not facts.use_mla and not facts.is_attention_free:
        scheme = compressed_tensors_scheme(facts.config)
        if name == "auto" and scheme is not None:
            name, reason = "fp8", "the checkpoint's compressed-tensors kv_cache_scheme"
        if name == "fp8_e5m2" and _stores_fp8_scales(facts, scheme):
            raise InputError(
                "--kv-cache-dtype: fp8_e5m2 kv-cache is not supported with fp8 checkpoints"
            )
    return KVCacheDtype(name, reason)


def skip_layers(requested: tuple[str, ...], kv_cache_dtype: str, facts: ModelFacts) -> list[str]:
    """Layers kept in the model's dtype: the user's, and TurboQuant's two at either end.

    As ``create_engine_config`` and ``TurboQuantConfig.get_boundary_skip_layers`` (0.33).
    """
    for word in requested:
        if word.isdigit() and (len(word) > 9 or int(word) >= facts.num_hidden_layers):
            raise InputError(
                f"--kv-cache-dtype-skip-layers: {word[:20]}; the model's layers are 0 to "
                f"{facts.num_hidden_layers - 1}"
            )
    ends: tuple[str, ...] = ()
    if kv_cache_dtype.startswith("turboquant_") or kv_cache_dtype == "ultraquant_4bit":
        ends = boundary_skip_layers(facts.num_hidden_layers, is_hybrid=facts.is_hybrid)
    return sorted({*requested, *ends})


def _data_centre_blackwell_default(
    facts: ModelFacts,
    platform: str,
    compute_capability: tuple[int, int] | None,
    rules: PlanningRules,
) -> str | None:
    if platform != "cuda" or compute_capability is None or compute_capability[0] != 10:
        return None
    if facts.architecture == "GlmMoeDsaForCausalLM":
        return "fp8_e4m3" if rules.blackwell_glm_is_fp8 else None
    next_one = facts.architecture in ("Glm5NextForCausalLM", "Glm5NextForConditionalGeneration")
    sparse = next_one and facts.text_config.get("index_topk") is not None
    return "fp8" if sparse and rules.blackwell_glm_next_is_fp8 else None


def _stores_fp8_scales(facts: ModelFacts, scheme: Mapping[str, Any] | None) -> bool:
    if layer_quantization(facts.config) is None:
        return False  # quantised while loading: no scales are read
    method = facts.quantization or ""
    return method == "fp8" or method.startswith("modelopt") or scheme is not None


_MAMBA_ARCHITECTURES = ("MambaForCausalLM", "Mamba2ForCausalLM", "FalconMambaForCausalLM")


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
    prefix, chunked = _defaults(facts)
    prefix = prefix if args.enable_prefix_caching is None else args.enable_prefix_caching
    chunked = chunked if args.enable_chunked_prefill is None else args.enable_chunked_prefill
    if args.mm_encoder_only or facts.architecture == "UnlimitedOCRForCausalLM":
        prefix = False  # whatever the user says
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


def _defaults(facts: ModelFacts) -> tuple[bool, bool]:
    """Of ``--enable-prefix-caching`` and ``--enable-chunked-prefill`` for this model."""
    kind, pooling = facts.attn_type, facts.pooling
    if pooling is None:
        return kind in ("decoder", "hybrid"), kind != "encoder_decoder"
    if kind != "decoder":
        return False, kind not in ("encoder_only", "encoder_decoder")
    by_token = pooling.tok_pooling_type != "STEP"
    in_chunks = by_token and pooling.seq_pooling_type not in ("MEAN", "CLS")
    return in_chunks, in_chunks


def hybrid_manager_disabled(
    args: EngineArgs,
    facts: ModelFacts,
    environment: EngineEnvironment,
    *,
    draft_uses_eagle: bool = False,
    connector_supports_hybrid: bool = True,
) -> bool:
    """Whether sliding and chunked layers are counted as full ones.

    Raises InputError where ``--enable-hybrid-kv-cache-manager`` cannot be had.
    """
    chunk = facts.text_config.get("attention_chunk_size")
    if facts.model_type in ("mimo_v2", "mimo_v2_flash"):
        chunk = None  # in its config, not in its layers
    must = chunk is not None and (
        draft_uses_eagle or not environment.allow_chunked_local_attn_with_hybrid_kv_cache
    )
    if args.disable_hybrid_kv_cache_manager is None:
        return must or not connector_supports_hybrid
    if args.disable_hybrid_kv_cache_manager is False and must:
        raise InputError(
            "Hybrid KV cache manager was explicitly enabled but is not supported in this "
            "configuration; leave --enable-hybrid-kv-cache-manager out"
        )
    return args.disable_hybrid_kv_cache_manager


_WITH_HYBRID = {
    **dict.fromkeys(
        (
            *("ExampleHiddenStatesConnector", "NixlConnector", "NixlPullConnector"),
            *("NixlPushConnector", "MultiConnector", "HiSparseConnector", "OffloadingConnector"),
            *("DecodeBenchConnector", "MooncakeConnector", "MooncakeStoreConnector"),
            *("SimpleCPUOffloadConnector", "UMBPStoreConnector"),
        ),
        FIRST,
    ),
    "MoRIIOConnector": (0, 30),
}
"""Connectors that work with the hybrid KV cache manager (``SupportsHMA``), and since when."""
_WITHOUT_HYBRID = (
    *("ExampleConnector", "LMCacheConnectorV1", "LMCacheMPConnector"),
    *("FlexKVConnectorV1", "HF3FSKVConnector"),
)
"""The other registered ones."""
_ROLES = ("kv_producer", "kv_consumer", "kv_both")
_MOST = 64


def without_hybrid(args: EngineArgs, rules: PlanningRules = TODAY) -> str | None:
    """Which connector turns the hybrid KV cache manager off; None where none does, or is there.

    As ``_post_init_kv_transfer_config`` and the check for ``SupportsHMA`` in vllm/config/vllm.py.
    A connector of one's own (``kv_connector_module_path``) is taken to work with it.

    Raises:
        InputError: The connector is not named, or its role is not.
        UnknownNameError: No such connector.
    """
    if args.kv_offloading_size is not None:
        backend = args.kv_offloading_backend
        return None if backend == "native" else f"--kv-offloading-backend {backend}"
    config = args.kv_transfer_config
    if config is None:
        return None
    at_fault = _at_fault(config, rules)
    if not at_fault and not rules.connectors_keep_hybrid:
        at_fault = [str(config["kv_connector"])]
    return " in ".join(at_fault) or None


def why_hybrid_is_off(args: EngineArgs, rules: PlanningRules = TODAY) -> str | None:
    """``without_hybrid`` as a sentence; None also where a flag decides."""
    cause = without_hybrid(args, rules)
    if cause is None or args.disable_hybrid_kv_cache_manager is not None:
        return None
    return f"{cause} turns the hybrid KV cache manager off (a KV connector without support for it)"


def _at_fault(config: Mapping[str, Any], rules: PlanningRules, depth: int = 0) -> list[str]:
    """Names from the connector without support up to this one; none where all have it."""
    name, role = config.get("kv_connector"), config.get("kv_role")
    if not isinstance(name, str) or not name:
        raise InputError("--kv-transfer-config: kv_connector is not set")
    if role not in _ROLES and not (role is None and depth):
        raise InputError(
            f"--kv-transfer-config: kv_role is {str(role)[:40]!r}; valid: {', '.join(_ROLES)}"
        )
    if config.get("kv_connector_module_path"):
        return []
    known = (*_WITH_HYBRID, *_WITHOUT_HYBRID)
    if name not in known:
        near = nearest(name, known, 2) or sorted(known)
        raise UnknownNameError(
            f"--kv-transfer-config: no connector {name[:60]!r}; nearest: {', '.join(near)}"
        )
    if name != "MultiConnector":
        supports = name in _WITH_HYBRID and rules.version >= _WITH_HYBRID[name]
        return [] if supports else [name]
    children = _children(config) if depth < 2 else []
    below = next(filter(None, (_at_fault(each, rules, depth + 1) for each in children)), [])
    return [*below, name] if below or not children else []


def needs_piecewise(config: Mapping[str, Any] | None) -> bool:
    """Whether the connector works between layers, which a full CUDA graph does not let it."""
    if config is None:
        return False
    if config.get("kv_connector") == "MultiConnector":
        return any(map(needs_piecewise, _children(config)))
    extra = config.get("kv_connector_extra_config")
    layerwise = isinstance(extra, Mapping) and bool(extra.get("use_layerwise"))
    return config.get("kv_connector") == "LMCacheConnectorV1" and layerwise


def _children(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    extra = config.get("kv_connector_extra_config")
    found = extra.get("connectors") if isinstance(extra, Mapping) else None
    listed = found if isinstance(found, list) else []
    return [each for each in listed[:_MOST] if isinstance(each, Mapping)]
