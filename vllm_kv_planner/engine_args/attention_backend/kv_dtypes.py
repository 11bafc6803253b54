"""KV cache dtypes by vLLM's names: their kinds, where they can be used, how backends pack them.

Source: vLLM 0.33 ``config/cache.py`` ``CacheDType``; ``v1/kv_cache_interface.py``
``get_kv_quant_mode``; the backends' ``supports_kv_cache_dtype`` and ``customize_spec``; sizes of
TurboQuant from ``model_executor/layers/quantization/turboquant/config.py``, of UltraQuant from
``v1/attention/ops/ultraquant/format.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import UnknownNameError, UnsupportedError, nearest
from ...kv_cache.spec import cdiv, round_up
from ...kv_cache.specs import AttentionSpec
from ...records import replace
from ..flag_table import flag_of
from .declaration import Capability

PER_TOKEN_HEAD = ("int4_per_token_head", "int8_per_token_head", "fp8_per_token_head")
QUANTISED_PREFIXES = ("fp8", "nvfp4", "turboquant_", "octave_")
QUANTISED_NAMES = (*PER_TOKEN_HEAD, "ultraquant_4bit")


def is_quantised(kv_cache_dtype: str) -> bool:
    """Whether values are stored in other than the model's floats."""
    return kv_cache_dtype.startswith(QUANTISED_PREFIXES) or kv_cache_dtype in QUANTISED_NAMES


def is_per_token_head(kv_cache_dtype: str) -> bool:
    """Whether each token's head carries its own scale."""
    return kv_cache_dtype in PER_TOKEN_HEAD


def is_nvfp4(kv_cache_dtype: str) -> bool:
    """Whether it is packed fp4 with block scales (the latent format not among them)."""
    return kv_cache_dtype.startswith("nvfp4") and kv_cache_dtype != "nvfp4_ds_mla"


def is_fp8_per_tensor(kv_cache_dtype: str) -> bool:
    """Whether it is 8-bit floats with one scale a tensor (latent packing counts as such)."""
    return kv_cache_dtype.startswith("fp8") and not is_per_token_head(kv_cache_dtype)


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
    known = flag_of("kv_cache_dtype").names
    if kv_cache_dtype in known:
        return kv_cache_dtype
    near = nearest(kv_cache_dtype, known)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UnknownNameError(f"--kv-cache-dtype {kv_cache_dtype}: {hint}valid: {', '.join(known)}")


def check_on_cuda(kv_cache_dtype: str, requested: str | None) -> None:
    """Refuse what no CUDA GPU can use, or not without asking for its backend.

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

    ``count`` of them at either end, never more than half the model; in hybrids none.
    """
    ends = min(count, num_layers // 2)
    if is_hybrid or ends <= 0:
        return ()
    indices = {*range(ends), *range(num_layers - ends, num_layers)}
    return tuple(map(str, sorted(indices)))


Pack = Callable[[AttentionSpec, Capability], AttentionSpec]

SCALE_BYTES = 4
"""A float32 scale per token and head, one for keys and one for values."""

TURBOQUANT_BITS = {
    "turboquant_k8v4": (8, 4),
    "turboquant_4bit_nc": (4, 4),
    "turboquant_k3v4_nc": (3, 4),
    "turboquant_3bit_nc": (3, 3),
}
"""Bits of a key element and of a value element; 8-bit keys are plain fp8, without a norm."""

ULTRAQUANT_GROUP = 32
"""Elements that share one scale byte."""


def nvfp4_row_bytes(head_size: int) -> int:
    """Half a byte per element and one scale byte per 16."""
    return head_size // 2 + head_size // 16


def turboquant_slot_bytes(kv_cache_dtype: str, head_size: int) -> int:
    """Key and value of one head and token, packed: a norm per key, scale and zero per value."""
    key_bits, value_bits = TURBOQUANT_BITS[kv_cache_dtype]
    key = head_size if key_bits == 8 else cdiv(head_size * key_bits, 8) + 2
    value = cdiv(head_size * value_bits, 8) + 4
    return round_up(key + value, 2)


def ultraquant_slot_bytes(head_size: int) -> int:
    """Key and value of one head and token: 4 bits an element and a scale byte per group.

    Raises:
        UnsupportedError: A head size that groups do not divide.
    """
    if head_size % ULTRAQUANT_GROUP:
        raise UnsupportedError(
            f"ultraquant_4bit needs a head_size that is a multiple of {ULTRAQUANT_GROUP}, "
            f"not {head_size}"
        )
    return head_size + 2 * (head_size // ULTRAQUANT_GROUP)


def per_token_head(spec: AttentionSpec, capability: Capability) -> AttentionSpec:
    """Triton: scales sit behind each head's data."""
    if spec.state_content_bytes is not None or not is_per_token_head(spec.kv_cache_dtype):
        return spec
    per_byte = 2 if spec.kv_cache_dtype == "int4_per_token_head" else 1
    elements = spec.head_size // per_byte + spec.head_size_v // per_byte
    content = elements * spec.dtype_bytes + 2 * SCALE_BYTES
    return replace(spec, state_content_bytes=content)


def nvfp4(spec: AttentionSpec, capability: Capability) -> AttentionSpec:
    """FlashInfer and MSA: keys and values in rows of their own.

    Raises:
        UnsupportedError: Keys and values of different width.
    """
    if spec.state_content_bytes is not None or not is_nvfp4(spec.kv_cache_dtype):
        return spec
    row = nvfp4_row_bytes(spec.head_size)
    if row != nvfp4_row_bytes(spec.head_size_v):
        raise UnsupportedError(
            f"{spec.kv_cache_dtype} needs keys and values of one width, "
            f"not {spec.head_size} and {spec.head_size_v}"
        )
    return replace(
        spec,
        num_head_slots=2 * spec.num_kv_heads,
        state_content_bytes=row * spec.dtype_bytes,
    )


def turboquant(spec: AttentionSpec, capability: Capability) -> AttentionSpec:
    """One packed slot per head."""
    if spec.state_content_bytes is not None or spec.kv_cache_dtype not in TURBOQUANT_BITS:
        return spec
    slot = turboquant_slot_bytes(spec.kv_cache_dtype, spec.head_size)
    return replace(spec, state_content_bytes=slot)


def ultraquant(spec: AttentionSpec, capability: Capability) -> AttentionSpec:
    """One packed slot per head."""
    if spec.state_content_bytes is not None or spec.kv_cache_dtype != "ultraquant_4bit":
        return spec
    return replace(spec, state_content_bytes=ultraquant_slot_bytes(spec.head_size))


def two_planes(spec: AttentionSpec, capability: Capability) -> AttentionSpec:
    """B12X: all heads' keys in one row, all heads' values in the other.

    Raises:
        UnsupportedError: Keys and values of different width.
    """
    if spec.state_content_bytes is not None:
        return spec
    if spec.head_size != spec.head_size_v:
        raise UnsupportedError("B12X needs keys and values of one width")
    row = spec.num_kv_heads * spec.head_size * spec.dtype_bytes
    return replace(spec, num_head_slots=2, state_content_bytes=row)


def rows_apart(rows: int) -> Pack:
    """Sparse kernels see pages of ``rows`` rows: blocks start whole pages apart."""

    def pack(spec: AttentionSpec, capability: Capability) -> AttentionSpec:
        return replace(spec, block_stride_bytes=rows * row_bytes(spec), block_stride_tokens=None)

    return pack


def tokens_apart(tokens: int) -> Pack:
    """Blocks start whole kernel blocks of ``tokens`` tokens apart."""

    def pack(spec: AttentionSpec, capability: Capability) -> AttentionSpec:
        return replace(spec, block_stride_bytes=1, block_stride_tokens=tokens)

    return pack


def flashmla_sparse(spec: AttentionSpec, capability: Capability) -> AttentionSpec:
    """Quantised rows off Blackwell are read in pages of 64 tokens; others row by row."""
    paged = is_quantised(spec.kv_cache_dtype) and capability[0] != 10
    return (tokens_apart(64) if paged else rows_apart(1))(spec, capability)


def row_bytes(spec: AttentionSpec) -> int:
    """Bytes of one row of one state."""
    if spec.state_content_bytes is not None:
        return spec.state_content_bytes
    return (spec.head_size + spec.head_size_v) * spec.dtype_bytes
