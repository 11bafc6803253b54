"""What one attention backend of vLLM declares about itself: a row of the tables."""

from __future__ import annotations

from collections.abc import Callable

from ...kv_cache.specs import AttentionSpec
from ...records import dataclass
from .blocks import ANY_BLOCK, KernelBlocks
from .facts import Capability, KernelQuestion, Situation

Layouts = tuple[str, ...]
Flag = bool | Callable[[Situation], bool]

HALF = ("float16", "bfloat16")
BF16 = ("bfloat16",)
ANY_FLOAT = (*HALF, "float32")
FP8 = ("fp8", "fp8_e4m3")
UNQUANTISED = ("auto", "float16", "bfloat16")
DECODER = ("decoder",)
ALL_TYPES = ("decoder", "encoder", "encoder_only", "encoder_decoder")


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One backend, as vLLM 0.33's class of that name answers.

    Attributes:
        name: vLLM's ``get_name()``; for selectable ones also the ``--attention-backend`` value.
        dtypes: Model dtypes.
        kv_cache_dtypes: KV cache dtypes; empty for any.
        head_sizes: Head sizes, in elements; empty for any.
        runs_on: Whether it runs on a compute capability.
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
    runs_on: Callable[[Capability], bool] = lambda capability: True
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
    attn_types: tuple[str, ...] = DECODER
    head_size_rule: Callable[[int, Capability], bool] | None = None
    kv_cache_dtype_rule: Callable[[Situation], bool] | None = None
    combination: Callable[[Situation], str | None] | None = None
    pack: Callable[[AttentionSpec, Capability], AttentionSpec] | None = None


def holds(flag: Flag, situation: Situation) -> bool:
    """The flag's answer in this situation."""
    return flag(situation) if callable(flag) else flag


def majors(*allowed: int) -> Callable[[Capability], bool]:
    """Runs on these major compute capabilities."""
    return lambda capability: capability[0] in allowed


def only(*allowed: Capability) -> Callable[[Capability], bool]:
    """Runs on these compute capabilities."""
    return lambda capability: capability in allowed


def between(low: Capability, high: Capability = (99, 9)) -> Callable[[Capability], bool]:
    """Runs from one compute capability to another, both included."""
    return lambda capability: low <= capability <= high
