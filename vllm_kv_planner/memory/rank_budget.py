"""One rank's budget: its parts, what they leave for the KV cache, and how surely.

What comes after the KV cache (CUDA graphs, buffers, larger steps than the profile's) is
``later_bytes``; the rest stands in ``budget.py``.
"""

from __future__ import annotations

from math import hypot

from ..records import dataclass
from .activation import ActivationPeak
from .cuda_graphs import GraphEstimate
from .overheads import Outside
from .phase import Parts

SLIGHTLY_MORE = 150 << 20
"""What vLLM itself keeps back when it proposes a KV cache size, for "the memory profiling may
slightly underestimate" (``gpu_worker.py`` ``compile_or_warm_up_model``, 0.10 to 0.33)."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of one rank, as "Model loading took" counts them."""

    size_bytes: int
    uncertainty_bytes: int = 0
    how: str = "given"


@dataclass(frozen=True, kw_only=True)
class RankBudget:
    """One rank's budget; bytes.

    Attributes:
        requested_bytes: What the engine may take of the GPU.
        activation: The profile run's peak.
        buffers: What the runner keeps, where this version counts it.
        reserve_bytes: Kept back for images (``--mm-ipc-gpu-memory-gb``).
        uncounted_bytes: The runner's buffers, where this version does not count them.
    """

    stage: int
    requested_bytes: int
    weights: Weights
    activation: ActivationPeak
    buffers: Parts
    outside: Outside
    graphs: GraphEstimate
    reserve_bytes: int
    uncounted_bytes: int

    @property
    def beside_cache_bytes(self) -> int:
        """What the rank takes of the GPU beside its KV cache, whoever counts it.

        What compiling takes for a moment is given back before the cache is allocated.
        """
        compiling = self.activation.peak_bytes - self.activation.least_bytes
        return self.requested_bytes - self.available_bytes - compiling + self.later_bytes

    @property
    def later_bytes(self) -> int:
        """What the start takes beyond ``requested_bytes``, once the KV cache is there.

        CUDA graphs that this version does not deduct, buffers that it does not count, and steps
        larger than the profile's. The peak itself is within what was requested.
        """
        captured = self.graphs.estimate_bytes - self.graphs.deducted_bytes
        return captured + self.uncounted_bytes + self.activation.beyond_bytes

    @property
    def later_uncertainty_bytes(self) -> int:
        """How far off ``later_bytes`` may be."""
        captured = 0 if self.graphs.deducted_bytes else self.graphs.uncertainty_bytes
        return int(hypot(captured, SLIGHTLY_MORE))

    @property
    def beside_uncertainty_bytes(self) -> int:
        """How far off ``beside_cache_bytes`` may be."""
        return self.uncertainty_bytes + self.later_uncertainty_bytes + self.outside.cold_bytes

    @property
    def buffer_bytes(self) -> int:
        """The runner's buffers."""
        return sum(size for _, size in self.buffers)

    @property
    def available_bytes(self) -> int:
        """Left for the KV cache; negative where nothing is."""
        return (
            self.requested_bytes
            - self.weights.size_bytes
            - self.buffer_bytes
            - self.activation.peak_bytes
            - self.outside.size_bytes
            - self.graphs.deducted_bytes
            - self.reserve_bytes
        )

    @property
    def uncertainty_bytes(self) -> int:
        """How far off ``available_bytes`` may be, nine times in ten, for a start that compiles.

        The parts err on their own, so their squares add up.
        """
        return int(
            hypot(
                self.weights.uncertainty_bytes,
                self.activation.uncertainty_bytes,
                self.outside.uncertainty_bytes,
                self.graphs.uncertainty_bytes if self.graphs.deducted_bytes else 0,
            )
        )

    @property
    def upside_bytes(self) -> int:
        """What the leanest start there is has more, see ``ActivationPeak.least_bytes``."""
        return self.activation.peak_bytes - self.activation.least_bytes + self.outside.cold_bytes

    @property
    def band_bytes(self) -> int:
        """How far off ``available_bytes`` may be for any start; reaches up to the leanest."""
        return self.uncertainty_bytes + self.upside_bytes

    @property
    def pessimistic_bytes(self) -> int:
        """What is left of a start that compiles, if the prediction is too high."""
        return self.available_bytes - self.uncertainty_bytes
