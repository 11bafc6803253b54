"""The longest context that vLLM lets a model have."""

from __future__ import annotations

import os
from bisect import bisect_left
from typing import Any

_ALLOW = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
_ANY = 1 << 40


def own_length(vllm_config: Any) -> int:
    """The model's own longest context, or the one asked for where that is longer.

    vLLM's check is asked which lengths it accepts: its default is less than that where a model
    stretches its positions (LongRoPE). Where a config names no length, vLLM accepts any; then it is
    the one asked for.

    Source: vLLM 0.33 ``config/model.py`` ``get_and_verify_max_len``.
    """
    model = vllm_config.model_config
    asked = int(model.max_model_len)
    check = getattr(model, "get_and_verify_max_len", None)
    if check is None:
        return asked

    def refuses(length: int) -> bool:
        try:
            check(length)
        except ValueError:
            return True
        return False

    allowed = os.environ.pop(_ALLOW, None)  # with it nothing is refused
    try:
        if not refuses(_ANY):
            return asked
        return max(asked, bisect_left(range(1, _ANY), True, key=refuses))
    finally:
        if allowed is not None:
            os.environ[_ALLOW] = allowed
