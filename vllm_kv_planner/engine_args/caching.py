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

from ..errors import InputError, UnknownNameError, UnsupportedError
from ..records import dataclass
from .attention_backend import boundary_skip_layers
from .engine_args import EngineArgs, EngineEnvironment
from .facts import ModelFacts
from .quantization import layer_quantization, quant_method
from .versions import FIRST, TODAY, PlanningRules

_MODELOPT = {"fp8": "fp8_e4m3", "nvfp4": "nvfp4"}


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
        scheme = compressed_tensors_scheme(facts)
        if name == "auto" and scheme is not None:
            name, reason = "fp8", "the checkpoint's compressed-tensors kv_cache_scheme"
        if name == "fp8_e5m2" and _stores_fp8_scales(facts, scheme):
            raise InputError(
                "--kv-cache-dtype: fp8_e5m2 kv-cache is not supported with fp8 checkpoints"
            )
    return KVCacheDtype(name, reason)


def modelopt_kv_cache_dtype(quantization_config: Mapping[str, Any]) -> str | None:
    """What a ModelOpt checkpoint asks of the KV cache; None for any other checkpoint.

    Unknown algorithms give ``auto``, as in ``get_kv_cache_quant_algo_string``.
    """
    if not quant_method(quantization_config).startswith("modelopt"):
        return None
    inner = quantization_config.get("quantization", quantization_config)
    inner = inner if isinstance(inner, Mapping) else {}
    algorithm = (
        inner.get("kv_cache_scheme")
        or quantization_config.get("kv_cache_scheme")
        or inner.get("kv_cache_quant_algo")
        or quantization_config.get("kv_cache_quant_algo")
    )
    if isinstance(algorithm, Mapping):
        bits, kind = algorithm.get("num_bits"), algorithm.get("type")
        if bits == 8 and kind == "float" and algorithm.get("dynamic") is False:
            return _MODELOPT["fp8"]
        return _MODELOPT["nvfp4"] if bits == 4 and kind == "float" else "auto"
    if isinstance(algorithm, str):
        return _MODELOPT.get(algorithm.lower(), "auto")
    return None


def compressed_tensors_scheme(facts: ModelFacts) -> Mapping[str, Any] | None:
    """A compressed-tensors checkpoint's ``kv_cache_scheme``, checked as vLLM checks it."""
    config = layer_quantization(facts.config)
    if config is None or quant_method(config) != "compressed-tensors":
        return None
    scheme = config.get("kv_cache_scheme")
    if not isinstance(scheme, Mapping):
        return None
    bits, kind, strategy = scheme.get("num_bits"), scheme.get("type"), scheme.get("strategy")
    if kind != "float" or bits != 8:
        raise UnsupportedError(
            "Currently supported kv cache quantization is num_bits=8, type=float, however "
            f"received num_bits={bits}, type={kind}"
        )
    if strategy not in ("tensor", "attn_head"):
        raise UnsupportedError(
            "Invalid strategy for compressed-tensors KV cache; expected tensor or attn_head, "
            f"found {strategy}"
        )
    if not scheme.get("symmetric"):
        raise UnsupportedError(
            "Only support symmetric scaling factor for compressed-tensors KV cache"
        )
    return scheme


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
    packed = kv_cache_dtype.startswith("turboquant_") or kv_cache_dtype == "ultraquant_4bit"
    if not packed:
        return sorted(set(requested))
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
    glm5 = ("Glm5NextForCausalLM", "Glm5NextForConditionalGeneration")
    if facts.architecture in glm5 and facts.text_config.get("index_topk") is not None:
        return "fp8" if rules.blackwell_glm_next_is_fp8 else None
    return None


def _stores_fp8_scales(facts: ModelFacts, scheme: Mapping[str, Any] | None) -> bool:
    if layer_quantization(facts.config) is None:
        return False  # quantised while loading: no scales are read
    method = facts.quantization or ""
    return method == "fp8" or method.startswith("modelopt") or scheme is not None


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


_HYBRID = {
    "ExampleConnector": False,
    "ExampleHiddenStatesConnector": True,
    "LMCacheConnectorV1": False,
    "LMCacheMPConnector": False,
    "NixlConnector": True,
    "NixlPullConnector": True,
    "NixlPushConnector": True,
    "MultiConnector": True,
    "HiSparseConnector": True,
    "MoRIIOConnector": True,
    "OffloadingConnector": True,
    "DecodeBenchConnector": True,
    "MooncakeConnector": True,
    "MooncakeStoreConnector": True,
    "FlexKVConnectorV1": False,
    "SimpleCPUOffloadConnector": True,
    "HF3FSKVConnector": False,
    "UMBPStoreConnector": True,
}
"""Every registered connector, and whether it works with the hybrid KV cache manager."""
_HYBRID_SINCE = {"MoRIIOConnector": (0, 30)}
"""Of those, the ones whose class became ``SupportsHMA`` later than connectors could keep it on."""
_ROLES = ("kv_producer", "kv_consumer", "kv_both")
_MOST = 64


def supports_hybrid(args: EngineArgs, rules: PlanningRules = TODAY) -> bool | None:
    """Whether the hybrid KV cache manager may stay on; None without a connector.

    A connector of one's own (``kv_connector_module_path``) is taken to work with it.

    Raises:
        InputError: The connector is not named, or its role is not.
        UnknownNameError: No such connector.
    """
    if args.kv_offloading_size is not None:
        return args.kv_offloading_backend == "native"
    if args.kv_transfer_config is None:
        return None
    return _supports(args.kv_transfer_config, rules) and rules.connectors_keep_hybrid


def why_hybrid_is_off(args: EngineArgs, rules: PlanningRules = TODAY) -> str | None:
    """Which connector turns the hybrid KV cache manager off; None where none does, or a flag does.

    As ``_post_init_kv_transfer_config`` and the check for ``SupportsHMA`` in vllm/config/vllm.py.
    """
    if args.disable_hybrid_kv_cache_manager is not None:
        return None
    if supports_hybrid(args, rules) is not False:
        return None
    if args.kv_offloading_size is not None:
        cause = f"--kv-offloading-backend {args.kv_offloading_backend}"
    else:
        cause = " in ".join(_without_hybrid(args.kv_transfer_config or {}, rules))
    return f"{cause} turns the hybrid KV cache manager off (a KV connector without support for it)"


def _without_hybrid(config: Mapping[str, Any], rules: PlanningRules) -> list[str]:
    """Names from the connector at fault up to the one that was asked for."""
    name = str(config.get("kv_connector"))
    for child in _children(config) if name == "MultiConnector" else []:
        if not _supports(child, rules, 1):
            return [*_without_hybrid(child, rules), name]
    return [name]


def needs_piecewise(config: Mapping[str, Any] | None) -> bool:
    """Whether the connector works between layers, which a full CUDA graph does not let it."""
    if config is None:
        return False
    if config.get("kv_connector") == "MultiConnector":
        return any(map(needs_piecewise, _children(config)))
    extra = config.get("kv_connector_extra_config")
    layerwise = isinstance(extra, Mapping) and bool(extra.get("use_layerwise"))
    return config.get("kv_connector") == "LMCacheConnectorV1" and layerwise


def _supports(config: Mapping[str, Any], rules: PlanningRules, depth: int = 0) -> bool:
    name, role = config.get("kv_connector"), config.get("kv_role")
    if not isinstance(name, str) or not name:
        raise InputError("--kv-transfer-config: kv_connector is not set")
    if role not in _ROLES and not (role is None and depth):
        raise InputError(
            f"--kv-transfer-config: kv_role is {str(role)[:40]!r}; valid: {', '.join(_ROLES)}"
        )
    if config.get("kv_connector_module_path"):
        return True
    if name not in _HYBRID:
        from difflib import get_close_matches

        near = get_close_matches(name, _HYBRID, n=2, cutoff=0.5) or sorted(_HYBRID)
        raise UnknownNameError(
            f"--kv-transfer-config: no connector {name[:60]!r}; nearest: {', '.join(near)}"
        )
    if name != "MultiConnector":
        return _HYBRID[name] and rules.version >= _HYBRID_SINCE.get(name, FIRST)
    children = _children(config)
    return (
        bool(children) and depth < 2 and all(_supports(each, rules, depth + 1) for each in children)
    )


def _children(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    extra = config.get("kv_connector_extra_config")
    found = extra.get("connectors") if isinstance(extra, Mapping) else None
    listed = found if isinstance(found, list) else []
    return [each for each in listed[:_MOST] if isinstance(each, Mapping)]
