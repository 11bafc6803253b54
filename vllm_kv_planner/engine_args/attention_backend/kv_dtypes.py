"""Every ``--kv-cache-dtype`` of vLLM 0.33, and where each can be used at all.

What a certain layer on a certain GPU can use is for ``select_backend`` to say.

Source: vLLM 0.33 ``config/cache.py`` ``CacheDType``; the backends' ``supports_kv_cache_dtype``;
``model_executor/layers/quantization/turboquant/config.py`` ``get_boundary_skip_layers``.
"""

from __future__ import annotations

from ...errors import UnknownNameError, UnsupportedError

KV_CACHE_DTYPES = (
    "auto",
    "float16",
    "bfloat16",
    "fp8",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp8_inc",
    "fp8_ds_mla",
    "nvfp4_ds_mla",
    "turboquant_k8v4",
    "turboquant_4bit_nc",
    "turboquant_k3v4_nc",
    "turboquant_3bit_nc",
    "octave_k3v4",
    "octave_k3v3",
    "octave_k3v3_compact",
    "ultraquant_4bit",
    "int4_per_token_head",
    "int8_per_token_head",
    "fp8_per_token_head",
    "nvfp4",
    "nvfp4_4over6",
)

NOT_ON_CUDA = {
    "fp8_inc": "is for Intel Gaudi; on CUDA use fp8",
    "octave_k3v4": "is for AMD GPUs",
    "octave_k3v3": "is for AMD GPUs",
    "octave_k3v3_compact": "is for AMD GPUs",
}
"""What no CUDA backend reads, and why."""

ON_REQUEST = {"ultraquant_4bit": "ULTRAQUANT"}
"""What CUDA's own order of backends never reaches: the backend to ask for."""

BOUNDARY_LAYERS = 2
"""Layers at either end of a model that packed caches leave in the model's dtype."""


def check_known(kv_cache_dtype: str) -> str:
    """The dtype, if vLLM knows it.

    Raises:
        UnknownNameError: It does not; with the nearest ones, and all of them.
    """
    if kv_cache_dtype in KV_CACHE_DTYPES:
        return kv_cache_dtype
    from difflib import get_close_matches

    near = get_close_matches(kv_cache_dtype, KV_CACHE_DTYPES, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UnknownNameError(
        f"--kv-cache-dtype {kv_cache_dtype}: {hint}valid: {', '.join(KV_CACHE_DTYPES)}"
    )


def check_on_cuda(kv_cache_dtype: str, requested: str | None) -> None:
    """Refuse what no CUDA GPU can use, or not without asking for its backend.

    Args:
        kv_cache_dtype: Of a layer.
        requested: ``--attention-backend``.

    Raises:
        UnsupportedError: With what would do.
    """
    reason = NOT_ON_CUDA.get(kv_cache_dtype)
    if reason is not None:
        raise UnsupportedError(f"--kv-cache-dtype {kv_cache_dtype} {reason}")
    backend = ON_REQUEST.get(kv_cache_dtype)
    if backend is not None and requested in (None, "auto"):
        raise UnsupportedError(
            f"--kv-cache-dtype {kv_cache_dtype}: vLLM never picks a backend for it on CUDA; "
            f"add --attention-backend {backend}"
        )


def boundary_skip_layers(
    num_layers: int, *, is_hybrid: bool, count: int = BOUNDARY_LAYERS
) -> tuple[str, ...]:
    """Layers that TurboQuant and UltraQuant leave unquantised, as decoder layer indices.

    Args:
        num_layers: Decoder layers of the model.
        is_hybrid: Whether it has state layers; then every attention layer is quantised.
        count: At either end; never more than half the model.
    """
    ends = min(count, num_layers // 2)
    if is_hybrid or ends <= 0:
        return ()
    indices = {*range(ends), *range(num_layers - ends, num_layers)}
    return tuple(map(str, sorted(indices)))
