"""Routed experts: all of a layer's in one tensor a product, cut by width or divided by number.

Source: vLLM 0.33 ``layers/fused_moe/layer.py`` ``FusedMoE``, ``routed_experts.py``,
``expert_map_manager.py`` ``determine_expert_map`` (rank 0 has the most);
``layers/fused_moe/oracle/``: the backend is chosen by device and flags, then
``…_round_up_hidden_size_and_intermediate_size`` pads for it before weights are allocated.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...gpu.gpu import NOT_CUDA
from ...kv_cache.spec import cdiv
from ...records import dataclass, replace
from .quantization.base import PROJECTIONS, ExpertsMethod, ExpertsShape, UnquantizedExperts
from .quantization.blocks import Mxfp4Experts
from .rank import Place, Rank, Tensor


@dataclass(frozen=True)
class RoutedExperts:
    """The experts themselves; router and shared experts are layers of their own.

    Attributes:
        gated: Two matrices merged in the first product, gate and up.
        score_bias: ``e_score_correction_bias`` that the layer itself registers.
        activation: By its name in the config; kernels are chosen by it.
        renormalizes: Router's weights are made to add up to one; kernels are chosen by it.
        projections: The checkpoint's names of an expert's matrices.
    """

    name: str
    num_experts: int
    hidden: int
    intermediate: int
    gated: bool = True
    bias: bool = False
    score_bias: bool = False
    activation: str = "silu"
    renormalizes: bool = True
    projections: tuple[str, ...] = PROJECTIONS

    def shape(self, rank: Rank) -> ExpertsShape:
        """What the rank holds."""
        held = cdiv(self.num_experts + rank.num_redundant_experts, rank.expert_parallel_size)
        return ExpertsShape(
            num_experts=held,
            hidden=self.hidden,
            intermediate=cdiv(self.intermediate, rank.experts_cut_by),
            shards=2 if self.gated else 1,
            bias=self.bias,
            dtype=rank.dtype,
        )

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """By the quantisation method's rule."""
        rank, outside = place.rank, place.at(self.name, "experts")
        inside = outside.at("routed_experts")
        method = rank.quantization.experts(outside.prefix, self.projections)
        method = for_kernel(method, rank, self.activation, self.renormalizes)
        for suffix, dimensions, dtype in method.experts(self.shape(rank)):
            yield inside.tensor(suffix, dimensions, dtype)
        if rank.expert_parallel_size > 1:
            everywhere = self.num_experts + rank.num_redundant_experts
            yield inside.tensor("_expert_map", (everywhere,), "int32")
        if self.score_bias:
            yield inside.tensor("e_score_correction_bias", (self.num_experts,), "float32")


def for_kernel(
    method: ExpertsMethod, rank: Rank, activation: str, renormalizes: bool
) -> ExpertsMethod:
    """The method with the sizes that this device's kernel rounds up to.

    FlashInfer's TRTLLM kernel runs on data-centre Blackwell, unless another is asked for.
    """
    if isinstance(method, UnquantizedExperts):
        asked = rank.moe_backend in ("auto", "flashinfer_trtllm")
        is_trtllm = asked and rank.compute_capability[0] == 10 and activation in ("silu", "relu2")
        return UnquantizedExperts(align_intermediate=128) if renormalizes and is_trtllm else method
    if isinstance(method, Mxfp4Experts):
        if method.prefers_triton and uses_triton_mxfp4(rank):
            return replace(method, align_hidden=1, align_intermediate=64)
        intermediate = 256 if rank.compute_capability == NOT_CUDA else 128
        return replace(method, align_hidden=256, align_intermediate=intermediate)
    return method


def uses_triton_mxfp4(rank: Rank) -> bool:
    """Triton's MXFP4 kernel: gpt-oss on Hopper, unless another is asked for."""
    if rank.moe_backend == "triton":
        return True
    return rank.moe_backend == "auto" and rank.compute_capability[0] == 9
