"""What MoE kernels make of the sizes they are given before weights are allocated.

Source: vLLM 0.33 ``layers/fused_moe/oracle/``: the backend is chosen by device and flags, then
``…_round_up_hidden_size_and_intermediate_size`` pads for it.
"""

from __future__ import annotations

from ....gpu.gpu import NOT_CUDA
from ....records import replace
from ..quantization.base import ExpertsMethod, UnquantizedExperts
from ..quantization.mxfp4 import Mxfp4Experts
from ..rank import Rank

_TRTLLM_ACTIVATIONS = frozenset({"silu", "relu2"})


def for_kernel(
    method: ExpertsMethod, rank: Rank, activation: str, renormalizes: bool
) -> ExpertsMethod:
    """The method with the sizes that this device's kernel rounds up to."""
    if isinstance(method, UnquantizedExperts):
        if renormalizes and _uses_trtllm(rank, activation):
            return UnquantizedExperts(align_intermediate=128)
        return method
    if isinstance(method, Mxfp4Experts):
        return _mxfp4(method, rank)
    return method


def _uses_trtllm(rank: Rank, activation: str) -> bool:
    """FlashInfer's TRTLLM kernel: data-centre Blackwell, unless another is asked for."""
    if rank.moe_backend not in ("auto", "flashinfer_trtllm"):
        return False
    return rank.compute_capability[0] == 10 and activation in _TRTLLM_ACTIVATIONS


def uses_triton_mxfp4(rank: Rank) -> bool:
    """Triton's MXFP4 kernel: gpt-oss on Hopper, unless another is asked for."""
    if rank.moe_backend == "triton":
        return True
    return rank.moe_backend == "auto" and rank.compute_capability[0] == 9


def _mxfp4(method: Mxfp4Experts, rank: Rank) -> Mxfp4Experts:
    """By device: ``mxfp4_round_up_hidden_size_and_intermediate_size``."""
    if method.prefers_triton and uses_triton_mxfp4(rank):
        return replace(method, align_hidden=1, align_intermediate=64)
    intermediate = 256 if rank.compute_capability == NOT_CUDA else 128
    return replace(method, align_hidden=256, align_intermediate=intermediate)
