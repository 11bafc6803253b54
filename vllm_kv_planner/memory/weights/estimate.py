"""Weights of every pipeline stage's rank, in bytes: the tensors that vLLM's layers would hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...records import dataclass, field
from ..allocator import allocated_bytes
from .tensor import Tensor


@dataclass(frozen=True, kw_only=True)
class StageWeights:
    """What one rank of a stage holds; ranks of a stage are alike but for a remainder of experts.

    Attributes:
        num_bytes: Parameters and buffers as the layers register them.
        parts: The same by what it belongs to.
        processing_bytes: What kernels' layouts add once weights are loaded; may be negative.
        padding_bytes: What the CUDA allocator adds: whole segments, and 512 bytes at least.
    """

    num_bytes: int
    parts: dict[str, int] = field(hash=False)
    processing_bytes: int = 0
    padding_bytes: int = 0

    @property
    def loaded_bytes(self) -> int:
        """What the engine reports: "Model loading took ... memory"."""
        return self.num_bytes + self.processing_bytes + self.padding_bytes


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
        """Of each stage's rank, as the layers register it."""
        return tuple(stage.num_bytes for stage in self.stages)

    @property
    def loaded_bytes(self) -> tuple[int, ...]:
        """Of each stage's rank, as the engine reports it after loading."""
        return tuple(stage.loaded_bytes for stage in self.stages)


def total(registered: Sequence[Tensor], loaded: Sequence[Tensor]) -> StageWeights:
    """Added up, by part too: as registered, and as they lie once loaded."""
    parts: Counter[str] = Counter()
    for tensor in registered:
        parts[tensor.part] += tensor.num_bytes
    before = sum(parts.values())
    after = sum(tensor.num_bytes for tensor in loaded)
    allocated = sum(allocated_bytes(tensor.num_bytes) for tensor in loaded)
    return StageWeights(
        num_bytes=before,
        parts=dict(parts),
        processing_bytes=after - before,
        padding_bytes=allocated - after,
    )
