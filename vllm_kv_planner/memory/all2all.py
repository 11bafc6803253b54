"""What the exchange of tokens among expert-parallel ranks allocates for itself (DeepEP).

The default exchange (``allgather_reducescatter``) uses NCCL and has nothing of its own. DeepEP
reserves a buffer for NVLink, and one for RDMA: of the same size between nodes (high throughput), or
two sets of send and receive buffers for every expert (low latency).

Source: vLLM 0.33 ``distributed/device_communicators/all2all.py``, ``envs.py``
(VLLM_DEEPEP_BUFFER_SIZE_MB); DeepEP ``csrc/config.hpp`` ``LowLatencyLayout``.
"""

from __future__ import annotations

from .outside import Outside
from .rank import Rank

GIB = 1 << 30
_BUFFER = 1 * GIB
_NODE = 8
"""GPUs of a node, as far as anyone says."""
_HEADER = 16
_OVER_NCCL = ("allgather_reducescatter", "naive", "pplx")
"""The last two are gone; vLLM takes the first in their place."""


def all2all(rank: Rank) -> Outside | None:
    """What every rank reserves; None where the exchange has nothing of its own."""
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
