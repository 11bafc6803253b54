"""What MoE kernels make of the sizes they are given before weights are allocated.

Source: vLLM 0.33 ``layers/fused_moe/oracle/``: the backend is chosen by device and flags, then
``…_round_up_hidden_size_and_intermediate_size`` pads for it.
"""

from __future__ import annotations

from ..quantization.base import UnquantizedExperts
from ..rank import Rank


def unquantized(rank: Rank) -> UnquantizedExperts:
    """FlashInfer's TRTLLM kernel wants widths of 128."""
    return UnquantizedExperts(align_intermediate=1)
