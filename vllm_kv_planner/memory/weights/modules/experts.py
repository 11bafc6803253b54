"""Routed experts: all of a layer's in one tensor a product, cut by width or divided by number.

Source: vLLM 0.33 ``layers/fused_moe/layer.py`` ``FusedMoE``, ``routed_experts.py``,
``expert_map_manager.py`` ``determine_expert_map`` (rank 0 has the most).
"""

from __future__ import annotations

from collections.abc import Iterator

from ....kv_cache.math import cdiv
from ....records import dataclass
from ..quantization.base import PROJECTIONS, ExpertsShape
from ..rank import Place
from ..tensor import Tensor
from .kernels import for_kernel


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
