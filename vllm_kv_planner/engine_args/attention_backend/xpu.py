"""Intel GPUs: the attention backends of vLLM's XPU platform, and what of it has no rule here.

Source: vLLM 0.33 ``platforms/xpu.py`` ``XPUPlatform`` (``get_attn_backend_cls``,
``supported_quantization``, ``check_if_supports_dtype``) and what ``v1/attention/backends/``
``flash_attn.py`` and ``fa_utils.py`` answer where ``current_platform.is_xpu()``.
"""

from __future__ import annotations

from ...errors import InputError, UnsupportedError
from ...records import replace
from .blocks import multiple_of
from .declaration import FP8, UNQUANTISED, Declaration
from .facts import Situation
from .plain_backends import FLASH_ATTN, TRITON_ATTN

QUANTIZATION = frozenset(
    {
        *("awq", "gptq", "moe_wna16", "auto_awq", "auto_gptq", "inc", "fp8", "deepseek_v4_fp8"),
        *("mxfp4", "mxfp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "online"),
        *("gpt_oss_mxfp4", "modelopt", "compressed-tensors"),
    }
)

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


def check_planned(
    device: str, dtype: str, quantization: str | None, unplanned: dict[str, bool]
) -> None:
    """Refuse what vLLM refuses on Intel GPUs, and what has no rule here.

    Args:
        device: The GPU's name.
        dtype: Of the model.
        quantization: Its method.
        unplanned: What the model or engine has, of what is not restated.

    Raises:
        InputError: In vLLM's words.
        UnsupportedError: Which part has no rule.
    """
    if quantization is not None and quantization not in QUANTIZATION:
        raise InputError(f"{quantization} quantization is currently not supported in xpu.")
    if dtype == "bfloat16" and "a770" in device.lower():
        raise InputError("Intel Arc A770 have bfloat16 accuracy known issue: use --dtype half")
    for what, there in unplanned.items():
        if there:
            raise UnsupportedError(
                f"{what} on Intel GPUs: vLLM's rules for it are not restated; plan for another "
                "GPU, or read the engine's own log there"
            )
