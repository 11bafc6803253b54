"""Weights of every pipeline stage's rank, in bytes: the tensors that vLLM's layers would hold."""

from __future__ import annotations

from collections import Counter

from ...records import dataclass, field
from ..allocator import allocated_bytes
from .architectures.tree import WeightTree
from .rank import Rank
from .tensor import Tensor


@dataclass(frozen=True, kw_only=True)
class StageWeights:
    """What one rank of a stage holds; ranks of a stage are alike but for a remainder of experts.

    Attributes:
        num_bytes: Parameters and registered buffers.
        parts: The same by what it belongs to.
        padding_bytes: What the CUDA allocator adds: whole segments, and 512 bytes at least.
    """

    num_bytes: int
    parts: dict[str, int] = field(hash=False)
    padding_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class WeightsEstimate:
    """Weights of the engine.

    Attributes:
        stages: One entry a pipeline stage, the first first.
        provenance: Where the figures come from, for the reader of the plan.
        uncertainty_bytes: Of the fullest stage: how far off the figure may be, either way.
        notes: Sentences for the reader.
    """

    stages: tuple[StageWeights, ...]
    provenance: str
    uncertainty_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> tuple[int, ...]:
        """Of each stage's rank."""
        return tuple(stage.num_bytes for stage in self.stages)

    @property
    def most_bytes(self) -> int:
        """Of the fullest stage's rank."""
        return max(self.num_bytes)


def stage_tensors(tree: WeightTree, rank: Rank, stages: tuple[range, ...]) -> list[list[Tensor]]:
    """Every tensor of every stage."""
    last = len(stages) - 1
    return [
        list(tree.stage(rank, layers, is_first=number == 0, is_last=number == last))
        for number, layers in enumerate(stages)
    ]


def total(tensors: list[Tensor]) -> StageWeights:
    """Added up, by part too."""
    parts: Counter[str] = Counter()
    allocated = 0
    for tensor in tensors:
        size = tensor.num_bytes
        parts[tensor.part] += size
        allocated += allocated_bytes(size)
    return StageWeights(
        num_bytes=sum(parts.values()),
        parts=dict(parts),
        padding_bytes=allocated - sum(parts.values()),
    )
