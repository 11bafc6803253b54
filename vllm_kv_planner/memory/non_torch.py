"""Memory that is not PyTorch's: what the engine takes beside weights and activations.

CUDA's context is older than vLLM's first snapshot and so does not count against the engine; kernels
loaded later, NCCL's buffers of first use and FlashInfer's own allocations do. None of it can be
derived: every figure is a row of ``overheads.json``. What DeepEP reserves can, see ``all2all.py``.

Source: vLLM 0.33 ``utils/mem_utils.py`` ``memory_profiling``, ``v1/worker/gpu_worker.py``
``init_device`` (NCCL and, from 0.33 on, cuBLAS start before the snapshot).
"""

from __future__ import annotations

from .all2all import all2all
from .compilation import benchmarked_table
from .outside import Outside
from .overheads import Overheads, find_row
from .rank import Rank


def non_torch(rank: Rank, overheads: Overheads) -> Outside:
    """Growth outside PyTorch between the first snapshot and the end of the profile run."""
    setup = rank.setup
    device, version = setup.gpu.short_name, rank.rules.version
    pipeline = rank.tp == 1 and setup.args.pipeline_parallel_size > 1
    row = find_row(overheads.non_torch, version, device, rank.tp, pipeline)
    if row is None:
        return Outside(0, 0, "no record")
    size, unsure, how = row.size_bytes, row.uncertainty_bytes, _how(row.source, row.device)
    if rank.rules.counts_runner_buffers:
        kept = find_row(overheads.not_given_back, version, device, 1, False)
        table = benchmarked_table(rank)
        if kept is not None and kept.size_bytes and table:
            # cuBLAS's workspace, which stays, was cut from what the table left
            size += table - rank.blas_workspace
            unsure += table // 4
            how += "; and the memory of a second embedding table, not given back"
        elif kept is not None:
            size += kept.size_bytes
            unsure += kept.spread_bytes
            how += f"; and freed but not given back: {kept.source}"
    # what a start on this machine printed has it already
    exchange = None if row.source.startswith("calibrated") else all2all(rank)
    if exchange is not None:
        return Outside(
            size + exchange.size_bytes, unsure + exchange.uncertainty_bytes, how + exchange.how
        )
    return Outside(size, unsure, how)


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
