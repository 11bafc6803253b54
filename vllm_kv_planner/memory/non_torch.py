"""Memory that is not PyTorch's: what the engine takes beside weights and activations.

CUDA's context is older than vLLM's first snapshot and so does not count against the engine; kernels
loaded later, NCCL's buffers of first use and FlashInfer's own allocations do. None of it can be
derived: every figure is a row of ``overheads.json``. What DeepEP reserves can, see ``all2all``.

Source: vLLM 0.33 ``utils/mem_utils.py`` ``memory_profiling``, ``v1/worker/gpu_worker.py``
``init_device`` (NCCL and, from 0.33 on, cuBLAS start before the snapshot).
"""

from __future__ import annotations

from math import hypot

from ..model.layers.delta_net import GatedDeltaNet
from ..records import dataclass
from .experts import rocm_padding
from .forward import benchmarked_table
from .overheads import Overheads, find_row
from .rank import Rank


@dataclass(frozen=True)
class Outside:
    """Bytes outside PyTorch's tensors, how far off they may be, and where they come from.

    ``cold_bytes`` of them are there only after a start that compiled the model.
    """

    size_bytes: int
    uncertainty_bytes: int
    how: str
    cold_bytes: int = 0


def non_torch(rank: Rank, overheads: Overheads) -> Outside:
    """Growth outside PyTorch between the first snapshot and the end of the profile run."""
    setup = rank.setup
    device, version = setup.gpu.short_name, rank.rules.version
    pipeline = rank.tp == 1 and setup.args.pipeline_parallel_size > 1
    row = find_row(overheads.non_torch, version, device, rank.tp, pipeline)
    if row is None:
        return Outside(0, 0, "no record")
    size, unsure, how = row.size_bytes, row.uncertainty_bytes, _how(row.source, row.device)
    seen = row.source.startswith("calibrated")
    table = 0 if seen else kept_table(rank)
    if table:
        size += table
        unsure += table // 10
        how += "; and, where it compiles, the memory of a second embedding table, not given back"
    large = find_row(overheads.warm_up, version, device, rank.tp, pipeline)
    if large is not None and not seen and has_gated_delta(rank):
        size += large.size_bytes
        unsure += large.spread_bytes
        how += f"; and {large.source}"
    pads, holes = (0, 0) if seen else rocm_padding(rank)
    if pads:
        size += pads + holes
        unsure += holes // 5
        how += "; and ROCm's padding of unquantised experts"
    rest = find_row(overheads.unexplained, version, device, rank.tp, pipeline)
    if rest is not None and not seen:
        unsure = int(hypot(unsure, rest.size_bytes))
    # what a start on this machine printed has it already
    exchange = None if seen else all2all(rank)
    if exchange is not None:
        size, unsure = size + exchange.size_bytes, unsure + exchange.uncertainty_bytes
        how += exchange.how
    return Outside(size, unsure, how, cold_bytes=table)


def has_gated_delta(rank: Rank) -> bool:
    """Whether gated-delta layers are among the model's, whose kernels tune themselves."""
    return any(isinstance(layer, GatedDeltaNet) for layer in rank.setup.model.layers)


def kept_table(rank: Rank) -> int:
    """Bytes that compiling's second embedding table leaves behind; 0 where it leaves none.

    cuBLAS's workspace, which stays too, was cut from it. ROCm's starts do not show it.
    """
    if not rank.rules.keeps_measured_table or rank.setup.gpu.platform == "rocm":
        return 0
    return max(0, benchmarked_table(rank) - rank.blas_workspace)


def taken_at_start(rank: Rank, overheads: Overheads) -> Outside:
    """Memory of the GPU that is gone before vLLM's first snapshot: context, NCCL, others."""
    device = rank.setup.gpu.short_name
    world = rank.tp * rank.setup.args.pipeline_parallel_size
    row = find_row(overheads.at_start, rank.rules.version, device, world, False)
    if row is None:
        return Outside(0, 0, "no record")
    return Outside(row.size_bytes, row.spread_bytes, _how(row.source, row.device))


def _how(source: str, device: str | None) -> str:
    measured = device is not None and not source.startswith("as other")
    return f"{'measured' if measured else 'carried over'}: {source}"


GIB = 1 << 30
_BUFFER = 1 * GIB
_NODE = 8
"""GPUs of a node, as far as anyone says."""
_HEADER = 16
_OVER_NCCL = ("allgather_reducescatter", "naive", "pplx")
"""The last two are gone; vLLM takes the first in their place."""


def all2all(rank: Rank) -> Outside | None:
    """What the exchange of tokens among expert-parallel ranks reserves on each; None for nothing.

    The default exchange (``allgather_reducescatter``) uses NCCL and has nothing of its own. DeepEP
    reserves a buffer for NVLink, and one for RDMA: of the same size between nodes (high
    throughput), or two sets of send and receive buffers for every expert (low latency).

    Source: vLLM 0.33 ``distributed/device_communicators/all2all.py``, ``envs.py``
    (VLLM_DEEPEP_BUFFER_SIZE_MB); DeepEP ``csrc/config.hpp`` ``LowLatencyLayout``.
    """
    args, experts = rank.setup.args, rank.shapes.experts
    if experts is None or not args.enable_expert_parallel or args.data_parallel_size < 2:
        return None
    backend = args.all2all_backend
    if backend == "deepep_high_throughput":
        size = _BUFFER * (1 if rank.tp * args.data_parallel_size <= _NODE else 2)
    elif backend == "deepep_low_latency":
        size = _BUFFER + _low_latency(rank.tokens, rank.hidden, experts.count)
    elif backend in _OVER_NCCL:
        return None
    else:
        return Outside(0, _BUFFER, f"; without the buffers of {backend}, which nobody measured")
    return Outside(size, size // 8, f"; and DeepEP's buffers, derived ({backend})")


def _low_latency(tokens: int, hidden: int, experts: int) -> int:
    """Send and receive buffers, each twice."""
    scales = hidden // 128
    dispatched = _HEADER + max(2 * hidden, hidden + 4 * scales)
    combined = 4 * scales + 2 * hidden
    send = max(tokens * dispatched, experts * tokens * combined)
    receive = experts * tokens * max(dispatched, combined)
    return 2 * (send + receive)
