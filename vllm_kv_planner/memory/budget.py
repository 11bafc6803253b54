"""The memory budget of an engine: what every rank has left for the KV cache, and how surely.

On every rank, as vLLM's worker computes it:

    requested = ceil(total x gpu_memory_utilization)
    available = requested - weights - runner's buffers - activation peak - outside PyTorch
                - CUDA graph estimate - reserve for images on their way

The tightest rank decides. Source: vLLM 0.33 ``v1/worker/gpu_worker.py``
``determine_available_memory``, ``v1/worker/utils.py`` ``request_memory``,
``multimodal/gpu_ipc_memory.py`` ``reserve_mm_ipc_gpu_memory``; what older versions did
differently: ``versions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, hypot

from ..engine_args.setup import EngineSetup
from ..records import dataclass
from .activation import activation_peak, runner_buffers, seen_activation
from .cuda_graphs import graph_estimate
from .overheads import Overheads, known_overheads, non_torch, taken_at_start
from .rank import Rank
from .rank_budget import RankBudget, Weights
from .versions import VersionRules, version_rules

GIB = 1 << 30
DEFAULT_VERSION = "0.33"

WeightsOfStage = Callable[[int], Weights]
"""The weights of a pipeline stage's rank, by the stage's number."""


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """What an engine has for its KV cache; the tightest rank's figures, in bytes.

    Attributes:
        requested_bytes: total x utilization, rounded up.
        weights_bytes: Weights.
        activation_peak_bytes: The profile run's peak above the weights, and what the runner keeps.
        cuda_graph_bytes: The CUDA graph estimate as deducted (0 where it is not).
        non_torch_bytes: Outside PyTorch.
        reserve_bytes: Kept back for images.
        available_kv_cache_bytes: What a start that compiles leaves.
        uncertainty_bytes: How far off that may be; reaches up to the leanest start.
        upside_bytes: What the leanest start has more, such as one that has nothing to compile.
        pessimistic_bytes: What is left of a start that compiles, if the prediction is too high.
        free_at_start_bytes: Free on the GPU when the engine looks first.
        free_uncertainty_bytes: How far off that may be.
        spills: Windows' driver moves what is too much to the host's memory.
        provenance: For every part where its figure comes from.
        ranks: One budget for each pipeline stage.
    """

    requested_bytes: int
    weights_bytes: int
    activation_peak_bytes: int
    cuda_graph_bytes: int
    non_torch_bytes: int
    reserve_bytes: int
    available_kv_cache_bytes: int
    uncertainty_bytes: int
    upside_bytes: int
    pessimistic_bytes: int
    free_at_start_bytes: int
    free_uncertainty_bytes: int
    spills: bool
    provenance: Mapping[str, str]
    ranks: tuple[RankBudget, ...]

    @property
    def tightest(self) -> RankBudget:
        """The rank with the least memory left."""
        return min(self.ranks, key=lambda rank: rank.available_bytes)

    @property
    def starts(self) -> bool:
        """Whether the GPU may have, free, what the engine asks for (``request_memory``)."""
        return self.free_at_start_bytes + self.free_uncertainty_bytes >= self.requested_bytes

    @property
    def starts_surely(self) -> bool:
        """Whether the start also survives what comes after the KV cache is allocated.

        Under Windows that need not find room: the driver moves what is too much to the host's
        memory (two starts on RTX 4090s took more than was free, and ran).
        """
        if self.spills:
            return self.free_at_start_bytes - self.free_uncertainty_bytes >= self.requested_bytes
        return all(
            self.left_bytes(rank) >= self.left_uncertainty_bytes(rank) for rank in self.ranks
        )

    def left_bytes(self, rank: RankBudget) -> int:
        """Free on a rank's GPU once graphs are captured, its steps' memory set aside."""
        return self.free_at_start_bytes - rank.requested_bytes - rank.later_bytes

    def left_uncertainty_bytes(self, rank: RankBudget) -> int:
        """How far off ``left_bytes`` may be: its two parts err on their own."""
        return int(hypot(self.free_uncertainty_bytes, rank.later_uncertainty_bytes))


def memory_budget(
    setup: EngineSetup,
    weights: int | Weights | WeightsOfStage,
    *,
    vllm_version: str = DEFAULT_VERSION,
    free_memory_bytes: int | None = None,
    other_processes_bytes: int = 0,
    overheads: Overheads | None = None,
) -> MemoryBudget:
    """The budget of an engine.

    Args:
        setup: The engine.
        weights: Bytes of a rank's weights, or what gives them for each pipeline stage.
        vllm_version: From 0.10 to 0.33.
        free_memory_bytes: Free on the GPU at start; None: what an idle GPU has.
        other_processes_bytes: What others hold of it, where ``free_memory_bytes`` is not given.
        overheads: Other measurements than the bundled ones.

    Raises:
        UnsupportedError: A version whose rules are not known.
    """
    rules = version_rules(vllm_version)
    if isinstance(weights, int):
        weights = Weights(size_bytes=weights)
    measured = overheads or known_overheads()
    ranks = tuple(
        rank_budget(
            Rank(setup=setup, rules=rules, stage=stage),
            weights(stage) if callable(weights) else weights,
            measured,
        )
        for stage in range(setup.args.pipeline_parallel_size)
    )
    tightest = min(ranks, key=lambda rank: rank.available_bytes)
    pessimistic = min(rank.pessimistic_bytes for rank in ranks)
    first = Rank(setup=setup, rules=rules)
    taken = taken_at_start(first, measured)
    free = setup.gpu.total_memory_bytes - taken.size_bytes - other_processes_bytes
    return MemoryBudget(
        requested_bytes=tightest.requested_bytes,
        weights_bytes=tightest.weights.size_bytes,
        activation_peak_bytes=tightest.activation.peak_bytes + tightest.buffer_bytes,
        cuda_graph_bytes=tightest.graphs.deducted_bytes,
        non_torch_bytes=tightest.outside.size_bytes,
        reserve_bytes=tightest.reserve_bytes,
        available_kv_cache_bytes=tightest.available_bytes,
        uncertainty_bytes=tightest.band_bytes,
        upside_bytes=tightest.upside_bytes,
        pessimistic_bytes=pessimistic,
        free_at_start_bytes=free if free_memory_bytes is None else free_memory_bytes,
        free_uncertainty_bytes=taken.uncertainty_bytes if free_memory_bytes is None else 0,
        spills=setup.gpu.under_windows,
        provenance=provenance_of(tightest, rules),
        ranks=ranks,
    )


def rank_budget(rank: Rank, weights: Weights, overheads: Overheads) -> RankBudget:
    """One rank's budget."""
    args, model = rank.setup.args, rank.setup.model
    reserve = int(args.mm_ipc_gpu_memory_gb * GIB) if model.is_multimodal else 0
    activation = seen_activation(rank, overheads) or activation_peak(rank)
    buffers = runner_buffers(rank)
    graphs = graph_estimate(
        rank, overheads.graphs, deduct=rank.setup.environment.estimate_cudagraphs
    )
    uncounted = 0 if rank.rules.counts_runner_buffers else sum(size for _, size in buffers)
    return RankBudget(
        stage=rank.stage,
        requested_bytes=requested_bytes(
            rank.setup.gpu.total_memory_bytes, args.gpu_memory_utilization
        ),
        weights=weights,
        activation=activation,
        buffers=buffers if rank.rules.counts_runner_buffers else (),
        outside=non_torch(rank, overheads),
        graphs=graphs,
        reserve_bytes=reserve,
        uncounted_bytes=uncounted,
    )


def requested_bytes(total_bytes: int, utilization: float) -> int:
    """``ceil(total x utilization)``, in floating point as vLLM computes it."""
    return ceil(total_bytes * utilization)


def provenance_of(rank: RankBudget, rules: VersionRules) -> dict[str, str]:
    """For every part of the rank's memory where its figure comes from."""
    kept = ", ".join(name.replace("_", " ") for name, _ in rank.buffers)
    activation = rank.activation.how + (f"; and kept by the runner: {kept}" if kept else "")
    return {
        "requested_bytes": "GPU's total x gpu_memory_utilization",
        "weights_bytes": rank.weights.how,
        "activation_peak_bytes": activation,
        "cuda_graph_bytes": rank.graphs.how,
        "non_torch_bytes": rank.outside.how,
        "available_kv_cache_bytes": f"predicted by the rules of vLLM {rules.name}",
    }
