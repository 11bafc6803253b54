"""The entry point of ``vllm.platform_plugins``: silent unless the planner's own child asks.

Source: vLLM 0.33 ``platforms/__init__.py`` ``resolve_current_platform_cls_qualname``: a plugin that
answers None is passed over, so an installed planner never changes what vLLM does elsewhere.
"""

from __future__ import annotations

import os

ABSENT_GPU = "KV_PLANNER_ABSENT_GPU"
"""Set by the planner in its own child process: the GPU to plan for, as JSON."""
ELSE_OWN_DEVICE = "KV_PLANNER_ELSE_OWN_DEVICE"
"""Set where a vLLM that is not built for CUDA may answer for its own device."""


def platform() -> str | None:
    """The platform class to use; None outside the planner's child process."""
    asked = os.environ.get(ABSENT_GPU)
    if not asked:
        return None
    import json

    home = "vllm_kv_planner.vllm_adapter.internals"
    if json.loads(asked)["gcn_architecture"]:
        return f"{home}.rocm_platform.AbsentROCmPlatform"
    return f"{home}.platform.AbsentGPUPlatform"
