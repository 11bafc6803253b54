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
        name: As vLLM names the ``FusedMoE`` layer.
        num_experts: Of the whole model.
        hidden: Width that an expert reads and writes.
        intermediate: Width inside.
        gated: Two matrices merged in the first product, gate and up.
        bias: Whether experts have biases.
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

    def shape(self, place: Place) -> ExpertsShape:
        """What the rank holds."""
        rank = place.rank
        divided = rank.expert_parallel_size
        count = cdiv(self.num_experts + rank.num_redundant_experts, divided)
        return ExpertsShape(
            prefix=place.prefix,
            num_experts=count,
            hidden=self.hidden,
            intermediate=cdiv(self.intermediate, rank.experts_cut_by),
            shards=2 if self.gated else 1,
            bias=self.bias,
            dtype=rank.dtype,
            whole_intermediate=self.intermediate,
        )

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """By the quantisation method's rule."""
        outside = place.at(self.name, "experts")
        inside = outside.at("routed_experts")
        method = place.rank.quantization.experts(outside.prefix, self.projections)
        method = for_kernel(method, place.rank, self.activation, self.renormalizes)
        for suffix, dimensions, dtype in method.experts(self.shape(outside)):
            yield inside.tensor(suffix, dimensions, dtype)
        if place.rank.expert_parallel_size > 1:
            everywhere = self.num_experts + place.rank.num_redundant_experts
            yield inside.tensor("_expert_map", (everywhere,), "int32")
        if self.score_bias:
            yield inside.tensor("e_score_correction_bias", (self.num_experts,), "float32")


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
