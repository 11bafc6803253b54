"""A candidate that was measured, as the offer that people read."""

from __future__ import annotations

from math import ceil

from ...records import replace
from .found import Found
from .measured import Measured
from .offer import Offer
from .search import Search
from .serve_line import node_lines

HAND_MADE = "MODEL"
"""In a command: a model that was described by hand."""


def offer_of(search: Search, found: Found, launcher: str) -> Offer:
    """The offer of one candidate."""
    constraints, candidate, measured = search.constraints, found.candidate, found.measured
    shape, args = candidate.shape, found.request.args
    replicas = shape.data_parallel_size
    each = ceil(constraints.concurrency / replicas)
    sure = found.sure_requests
    price = constraints.prices.get(candidate.gpu.short_name)
    named = replace(args, model=HAND_MADE) if found.request.found.source == "custom" else args
    lines = node_lines(
        named,
        num_nodes=shape.num_nodes,
        launcher=launcher,
        environment=found.request.environment,
    )
    return Offer(
        model=found.request.found.id,
        gpu=candidate.gpu.short_name,
        num_gpus=candidate.num_gpus,
        num_nodes=shape.num_nodes,
        tensor_parallel_size=shape.tensor_parallel_size,
        pipeline_parallel_size=shape.pipeline_parallel_size,
        data_parallel_size=replicas,
        enable_expert_parallel=shape.enable_expert_parallel,
        kv_cache_dtype=candidate.kv_cache_dtype,
        gpu_memory_utilization=args.gpu_memory_utilization,
        max_model_len=measured.max_model_len,
        max_num_seqs=measured.max_num_seqs,
        max_num_batched_tokens=measured.max_num_batched_tokens,
        available_kv_cache_bytes=measured.available_bytes,
        uncertainty_bytes=measured.available_bytes - measured.pessimistic_bytes,
        concurrency=measured.concurrency * replicas,
        sure_requests=sure,
        spare_requests=None if sure is None else sure - constraints.concurrency,
        spare_bytes=measured.spare_bytes(each),
        limited_by=limit(measured),
        why_not_fewer=search.why_not_fewer(found),
        surely=found.surely,
        total_memory_bytes=candidate.gpu.total_memory_bytes * candidate.num_gpus,
        price=None if price is None else price * candidate.num_gpus,
        command=lines[0],
        node_commands=lines,
        request=found.request,
    )


def limit(measured: Measured) -> str:
    """What ends the number of requests that run at once."""
    held = measured.pessimistic_requests
    if held is None or measured.max_num_seqs <= held:
        return "max_num_seqs"
    weights, requested = measured.weights_bytes, measured.requested_bytes
    if weights is not None and requested is not None and 2 * weights > requested:
        return "weights"
    return "kv_cache"
