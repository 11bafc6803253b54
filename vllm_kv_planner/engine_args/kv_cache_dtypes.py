"""The dtype the KV cache is kept in: ``--kv-cache-dtype`` against checkpoint and model.

Restates of vLLM 0.33: ``resolve_kv_cache_dtype_string`` (vllm/utils/torch_utils.py), the model
rules of vllm/model_executor/models/config.py, ``Attention.__init__`` and
``MLAAttention.__init__`` (vllm/model_executor/layers/attention/), ``VllmConfig`` checks
(vllm/config/vllm.py). Which dtypes a device can use is the attention backend's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, UnsupportedError
from ..records import dataclass
from .checkpoint_quantization import layer_quantization, quant_method
from .facts import ModelFacts

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
) -> KVCacheDtype:
    """What ``cache_config.cache_dtype`` is once the layers are built.

    ``dtype`` is the model's resolved dtype. Sparse MLA may still rename it
    (``sparse_mla_kv_cache_dtype``). Raises InputError in vLLM's words for a dtype that does
    not go with the model.
    """
    name, reason = requested, None
    if name == "auto" and facts.quantization_config is not None:
        name = modelopt_kv_cache_dtype(facts.quantization_config) or "auto"
        reason = "the checkpoint's ModelOpt config" if name != "auto" else None
    if name == "bfloat16" and facts.architecture == "DeepseekV32ForCausalLM":
        name = "auto"
    if name == "auto":
        default = _data_centre_blackwell_default(facts, platform, compute_capability)
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


def sparse_mla_kv_cache_dtype(backend: str, kv_cache_dtype: str) -> str:
    """The layout a sparse MLA backend makes of a dtype (``fp8`` to ``fp8_ds_mla``)."""
    quantised = kv_cache_dtype not in ("auto", "float16", "bfloat16")
    if backend == "FLASHMLA_SPARSE" and quantised:
        return kv_cache_dtype if kv_cache_dtype == "nvfp4_ds_mla" else "fp8_ds_mla"
    if backend == "FLASHINFER_MLA_SPARSE_SM120" and kv_cache_dtype in ("auto", "fp8", "fp8_e4m3"):
        return "fp8_ds_mla"
    return kv_cache_dtype


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
    boundary: set[str] = set()
    packed = kv_cache_dtype.startswith("turboquant_") or kv_cache_dtype == "ultraquant_4bit"
    if packed and not facts.is_hybrid:
        layers = facts.num_hidden_layers
        ends = min(2, layers // 2)
        boundary = {str(i) for i in (*range(ends), *range(layers - ends, layers))}
    return sorted(set(requested) | boundary)


def _data_centre_blackwell_default(
    facts: ModelFacts, platform: str, compute_capability: tuple[int, int] | None
) -> str | None:
    if platform != "cuda" or compute_capability is None or compute_capability[0] != 10:
        return None
    if facts.architecture == "GlmMoeDsaForCausalLM":
        return "fp8_e4m3"
    glm5 = ("Glm5NextForCausalLM", "Glm5NextForConditionalGeneration")
    if facts.architecture in glm5 and facts.text_config.get("index_topk") is not None:
        return "fp8"
    return None


def _stores_fp8_scales(facts: ModelFacts, scheme: Mapping[str, Any] | None) -> bool:
    if layer_quantization(facts.config) is None:
        return False  # quantised while loading: no scales are read
    method = facts.quantization or ""
    return method == "fp8" or method.startswith("modelopt") or scheme is not None
