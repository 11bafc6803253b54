"""From bytes to blocks, tokens and concurrent sequences.

Source: vLLM 0.33 ``v1/core/kv_cache_planning.py`` ``get_kv_cache_configs`` and
``v1/core/kv_cache_utils.py`` ``get_max_concurrency_for_kv_cache_config``,
``get_kv_cache_capacity``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from ..errors import UnsupportedError
from ..records import dataclass, replace
from .group import KVCacheGroup, Layers, bytes_per_block, is_block_compact, is_block_outermost
from .groups import group_layers
from .specs import RequestLimits, SlidingWindowSpec


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One pipeline stage's rank.

    Attributes:
        layers: Its cache layers, in order.
        available_bytes: Memory for its KV cache.
    """

    layers: Layers
    available_bytes: int


@dataclass(frozen=True, kw_only=True)
class WorkerBlocks:
    """How a worker's memory divides into blocks.

    Attributes:
        groups: Its share of the model's groups.
        bytes_per_block: What one block id costs here.
        available_bytes: Memory for its KV cache (what ``num_gpu_blocks_override`` would take).
        blocks_per_request: Blocks of one request at ``max_model_len``, all groups together.
    """

    groups: tuple[KVCacheGroup, ...]
    bytes_per_block: int
    available_bytes: int
    blocks_per_request: int = 0

    @classmethod
    def of(
        cls, worker: Worker, groups: Sequence[KVCacheGroup], layout: str, override: int | None
    ) -> WorkerBlocks:
        """Project the model's groups on the worker; for no length of requests yet."""
        mine = tuple(group.on_worker(worker.layers) for group in groups)
        per_block = bytes_per_block(mine, layout)
        available = worker.available_bytes if override is None else override * per_block
        return cls(groups=mine, bytes_per_block=per_block, available_bytes=available)

    def serving(self, limits: RequestLimits) -> WorkerBlocks:
        """The same for requests of this length."""
        return replace(self, blocks_per_request=self.needed(limits))

    def needed(self, limits: RequestLimits) -> int:
        """Blocks of one request, all groups together."""
        return sum(group.blocks_per_request(limits) for group in self.groups)

    @property
    def num_blocks(self) -> int:
        """Blocks its memory holds."""
        return max(self.available_bytes, 0) // self.bytes_per_block

    @property
    def needed_bytes(self) -> int:
        """Memory for one request at ``max_model_len``."""
        return self.blocks_per_request * self.bytes_per_block

    @property
    def usable_bytes(self) -> int:
        """Memory less the null block, which is never handed out."""
        return self.available_bytes - self.bytes_per_block

    @property
    def fits(self) -> bool:
        """Whether one request of ``max_model_len`` can be served at all."""
        return self.needed_bytes <= self.usable_bytes

    def longest_that_fits(self, limits: RequestLimits, model_max_len: int) -> int:
        """Largest ``max_model_len``, up to ``model_max_len``, that one request fits with, or 0."""
        usable = self.usable_bytes // self.bytes_per_block

        def needed(length: int) -> int:
            return self.needed(limits.at_length(length))

        if needed(model_max_len) <= usable:
            return model_max_len
        return bisect_right(range(1, model_max_len + 1), usable, key=needed)


@dataclass(frozen=True, kw_only=True)
class KVCachePlan:
    """What the engine will print and allocate.

    Attributes:
        workers: Each worker's blocks; empty where the model keeps no cache.
        tightest: Index of the worker that holds the fewest blocks, largest block first.
        num_gpu_blocks: Blocks of every worker: the fewest any of them holds.
        max_concurrency: Requests of ``max_model_len`` that the blocks hold at once.
        kv_cache_size_tokens: ``max_concurrency`` times ``max_model_len``, rounded down.
        max_model_len: Tokens, after ``auto`` fitted it to the memory.
        max_model_len_that_fits: Largest length, up to the model's own, that one request may have.
        fits: Whether the engine starts.
    """

    workers: tuple[WorkerBlocks, ...]
    tightest: int
    num_gpu_blocks: int
    max_concurrency: float
    kv_cache_size_tokens: int
    max_model_len: int
    max_model_len_that_fits: int
    fits: bool

    @property
    def worker(self) -> WorkerBlocks | None:
        """The tightest rank, whose groups are shown; None where the model keeps no cache."""
        return self.workers[self.tightest] if self.workers else None


def plan_kv_cache(
    workers: Sequence[Worker],
    limits: RequestLimits,
    *,
    layout: str,
    model_max_len: int,
    auto_fit: bool = False,
    num_gpu_blocks_override: int | None = None,
    hybrid_kv_cache_manager: bool = True,
) -> KVCachePlan:
    """Divide every worker's KV memory into blocks, as the engine does at start-up.

    Args:
        workers: One per pipeline stage; tensor-parallel ranks of a stage are alike.
        limits: What one request may hold; ``max_model_len`` as asked for.
        layout: The resolved KV cache layout.
        model_max_len: The longest length worth trying: the model's own.
        auto_fit: Whether ``max_model_len`` shrinks to what fits (``--max-model-len auto``).
        num_gpu_blocks_override: Blocks to pretend, whatever the memory.
        hybrid_kv_cache_manager: As ``group_layers`` takes it.
    """
    merged = workers[0].layers
    if len(workers) > 1:
        merged = {name: spec for worker in workers for name, spec in worker.layers.items()}
    model_groups = group_layers(merged, layout, hybrid_kv_cache_manager=hybrid_kv_cache_manager)
    if not model_groups:
        return no_cache(limits, model_max_len)
    if limits.decode_context_parallel_size > 1:
        check_windows(model_groups)
    if not is_block_compact(layout):
        check_padding(model_groups, layout)
    stages = [
        WorkerBlocks.of(worker, model_groups, layout, num_gpu_blocks_override) for worker in workers
    ]
    longest = min(stage.longest_that_fits(limits, model_max_len) for stage in stages)
    if auto_fit and longest < limits.max_model_len:
        limits = limits.at_length(max(longest, 1))
    blocks = tuple(stage.serving(limits) for stage in stages)
    num_blocks = min(worker.num_blocks for worker in blocks)
    tightest = min(
        range(len(blocks)), key=lambda i: (blocks[i].num_blocks, -blocks[i].bytes_per_block)
    )
    per_request = sum(group.spec.blocks_per_request(limits) for group in blocks[0].groups)
    concurrency = num_blocks / per_request
    return KVCachePlan(
        workers=blocks,
        tightest=tightest,
        num_gpu_blocks=num_blocks,
        max_concurrency=concurrency,
        kv_cache_size_tokens=int(concurrency * limits.max_model_len),
        max_model_len=limits.max_model_len,
        max_model_len_that_fits=longest,
        fits=longest > 0 and all(worker.fits for worker in blocks),
    )


def check_windows(groups: Sequence[KVCacheGroup]) -> None:
    """Refuse windows whose tokens decode context parallel would divide over ranks.

    Source: vLLM 0.33 ``SlidingWindowSpec.max_memory_usage_bytes``.
    """
    for group in groups:
        for spec, _ in group.distinct:
            if isinstance(spec, SlidingWindowSpec) and spec.dcp_sharded:
                raise UnsupportedError(
                    "DCP not support sliding window: leave --decode-context-parallel-size at 1 "
                    "for this model"
                )


def check_padding(groups: Sequence[KVCacheGroup], layout: str) -> None:
    """Refuse padded pages where the layout scatters a page's heads.

    Source: vLLM 0.33 ``kv_cache_interface.compute_layout_strides``,
    ``kv_cache_planning.get_kv_cache_config_from_groups``.
    """
    for spec in (spec for group in groups for spec, _ in group.distinct):
        page, heads = spec.page_size_bytes, getattr(spec, "num_heads", 1)
        strided = not is_block_outermost(layout) and page % spec.block_stride_alignment()
        if strided or (heads > 1 and page != spec.unpadded_page_size_bytes):
            raise UnsupportedError(f"vLLM cannot pad pages in the KV cache layout {layout}")


def no_cache(limits: RequestLimits, model_max_len: int) -> KVCachePlan:
    """A model that keeps nothing between steps: vLLM gives it the null block alone."""
    return KVCachePlan(
        workers=(),
        tightest=0,
        num_gpu_blocks=1,
        max_concurrency=0.0,
        kv_cache_size_tokens=0,
        max_model_len=limits.max_model_len,
        max_model_len_that_fits=model_max_len,
        fits=True,
    )
