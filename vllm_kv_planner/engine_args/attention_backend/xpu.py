"""Intel GPUs: the attention backends of vLLM's XPU platform, and what of it has no rule here.

Source: vLLM 0.33 ``platforms/xpu.py`` ``XPUPlatform`` (``get_attn_backend_cls``,
``supported_quantization``, ``check_if_supports_dtype``) and what ``v1/attention/backends/``
``flash_attn.py`` and ``fa_utils.py`` answer where ``current_platform.is_xpu()``.
"""

from __future__ import annotations

from ...records import replace
from .declaration import FP8, UNQUANTISED, Declaration, Situation, multiple_of
from .plain_backends import FLASH_ATTN, TRITON_ATTN

XPU: dict[str, Declaration] = {
    "FLASH_ATTN": replace(
        FLASH_ATTN,
        kv_cache_dtypes=(*UNQUANTISED, *FP8),
        kv_cache_dtype_rule=None,
        head_size_rule=lambda size, capability: size % 8 == 0 and size <= 512,
        runs_on=lambda capability: True,
        blocks=multiple_of(64),
        preferred=64,
        sink=True,
        mm_prefix=False,
        per_head_scales=False,
        combination=None,
    ),
    "TRITON_ATTN": TRITON_ATTN,
}


def backend_order(situation: Situation) -> tuple[str, ...]:
    """The one backend vLLM takes where none is asked for."""
    return ("TRITON_ATTN",) if situation.request.dtype == "float32" else ("FLASH_ATTN",)
