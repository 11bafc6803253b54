"""The parts of a ``Plan``, from a resolved engine and its blocks."""

from __future__ import annotations

from ..engine_args.setup import EngineSetup
from ..errors import printable
from ..kv_cache.capacity import KVCachePlan, WorkerBlocks
from ..kv_cache.group import KVCacheGroup
from ..kv_cache.spec import cdiv
from ..kv_cache.specs import MLAAttentionSpec, RequestLimits
from ..units import gib
from .types import (
    EngineInfo,
    GroupInfo,
    HostInfo,
    KVCacheInfo,
)


def engine_info(setup: EngineSetup, blocks: KVCachePlan) -> EngineInfo:
    """The engine's settings after everything is resolved."""
    args, resolved = setup.args, setup.resolved
    speculative = resolved.speculative
    return EngineInfo(
        dtype=resolved.dtype.name,
        kv_cache_dtype=stored_kv_cache_dtype(setup),
        block_size=engine_block_size(setup, blocks),
        max_model_len=blocks.max_model_len,
        max_num_seqs=resolved.batch.max_num_seqs,
        max_num_batched_tokens=resolved.batch.max_num_batched_tokens,
        gpu_memory_utilization=float(args.gpu_memory_utilization),
        tensor_parallel_size=args.tensor_parallel_size,
        pipeline_parallel_size=args.pipeline_parallel_size,
        data_parallel_size=args.data_parallel_size,
        decode_context_parallel_size=args.decode_context_parallel_size,
        enforce_eager=args.enforce_eager,
        enable_prefix_caching=resolved.caching.enable_prefix_caching,
        quantization=setup.facts.quantization,
        attention_backend=", ".join(setup.cache.backends) or None,
        speculative=None if speculative is None else speculative.method,
    )


def stored_kv_cache_dtype(setup: EngineSetup) -> str:
    """The KV cache dtype, once sparse latent layers have made a row layout of it.

    Source: vLLM 0.33 ``MLAAttention.__init__``, ``models/deepseek_v4/attention.py``.
    """
    if setup.model.use_mla:
        for layers in setup.cache.stages:
            for spec in layers.values():
                if isinstance(spec, MLAAttentionSpec) and spec.kv_cache_dtype.endswith("_ds_mla"):
                    return spec.kv_cache_dtype
    return setup.resolved.kv_cache_dtype.name


def engine_block_size(setup: EngineSetup, blocks: KVCachePlan) -> int:
    """The block size vLLM reports: the smallest of its groups that prefix caching can use.

    Source: vLLM 0.33 ``EngineCore._initialize_kv_caches``.
    """
    if not blocks.workers:
        return setup.context.block_size
    groups = blocks.workers[0].groups
    cacheable = [group.spec.block_size for group in groups if group.spec.prefix_cacheable]
    return min(cacheable or [group.spec.block_size for group in groups])


def cache_info(
    blocks: KVCachePlan, limits: RequestLimits, *, memory_known: bool = True
) -> KVCacheInfo:
    """Bytes and blocks of the tightest rank; without the figures that its memory decides."""
    worker = blocks.worker
    return KVCacheInfo(
        bytes_per_token=0 if worker is None else bytes_per_token(worker, limits),
        bytes_per_block=0 if worker is None else worker.bytes_per_block,
        num_gpu_blocks=blocks.num_gpu_blocks if memory_known else None,
        kv_cache_size_tokens=blocks.kv_cache_size_tokens if memory_known else None,
        max_concurrency=blocks.max_concurrency if memory_known else None,
        max_model_len_that_fits=blocks.max_model_len_that_fits if memory_known else None,
        groups=()
        if worker is None
        else tuple(group_info(group, blocks.max_model_len, limits) for group in worker.groups),
    )


def bytes_per_token(worker: WorkerBlocks, limits: RequestLimits) -> int:
    """Bytes of one more token of context: the layers whose cache grows with it, unpadded."""
    total = 0
    for group in worker.groups:
        for spec, count in group.distinct:
            if spec.grows_with_context:
                ranks = limits.decode_context_parallel_size if spec.dcp_sharded else 1
                total += count * cdiv(spec.unpadded_page_size_bytes, spec.block_size * ranks)
    return total


def group_info(group: KVCacheGroup, max_model_len: int, limits: RequestLimits) -> GroupInfo:
    """One group for people and programs."""
    return GroupInfo(
        kind=group.spec.kind,
        num_layers=len(group.layers),
        block_size=group.spec.block_size,
        page_size_bytes=group.page_size_bytes,
        blocks_per_request=group.blocks_per_request(limits.at_length(max_model_len)),
    )


def host_info(setup: EngineSetup) -> HostInfo | None:
    """The host's share, where it uses the GPU's memory, too."""
    if not (setup.gpu.unified_memory or setup.gpu.coherent_memory):
        return None
    total = setup.gpu.total_memory_bytes
    return HostInfo(
        unified_memory=setup.gpu.unified_memory,
        total_bytes=total,
        left_bytes=total - int(total * setup.args.gpu_memory_utilization),
        wanted_bytes=setup.gpu.host_wants_bytes,
    )


def host_note(host: HostInfo | None) -> tuple[str, ...]:
    """A warning where the host is left too little."""
    if host is None or host.left_bytes >= host.wanted_bytes:
        return ()
    left, wanted = gib(host.left_bytes), gib(host.wanted_bytes)
    if not host.unified_memory:
        return (
            "the host may keep page cache in this GPU's memory (NVLink-C2C), which vLLM then finds "
            f"taken: {left} is left for it, and with less than some {wanted} starts have ended; "
            "free the host's caches before, or lower --gpu-memory-utilization",
        )
    return (
        f"the GPU's memory is the host's too: {left} is left for it, and with less than some "
        f"{wanted} whole hosts have hung; lower --gpu-memory-utilization",
    )


def draft_notes(setup: EngineSetup) -> tuple[str, ...]:
    """Where a draft model's own config comes from, and what is to be known of it."""
    found = None if setup.draft is None else setup.draft.found
    if found is None:
        return ()
    named = f"draft model {printable(found.id[:200])}"
    return (f"{named}: config {found.source}", *(f"{named}: {note}" for note in found.notes))


def all_notes(setup: EngineSetup, blocks: KVCachePlan, pessimistic: KVCachePlan) -> tuple[str, ...]:
    """What the reader should know beside the figures."""
    notes = [*setup.model.notes, *setup.resolved.notes]
    reason = setup.resolved.kv_cache_dtype.reason
    if reason:
        notes.append(f"kv_cache_dtype {setup.resolved.kv_cache_dtype.name}: {reason}")
    if len(blocks.workers) > 1:
        notes.append(
            f"the figures are those of pipeline stage {blocks.tightest} (0 to "
            f"{len(blocks.workers) - 1}), which holds the fewest blocks"
        )
    low, high = pessimistic.max_concurrency, blocks.max_concurrency
    if blocks.fits and low < high * RANGE_MATTERS:
        notes.append(
            f"maximum concurrency is {low:.2f}x if every part of the memory is at its largest"
        )
    return tuple(notes)


RANGE_MATTERS = 0.99
"""A pessimistic concurrency below this share of the likely one is told."""
