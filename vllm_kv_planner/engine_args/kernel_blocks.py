"""The workers' last word on the block size: the kernels of a group must share one.

A worker cuts a group's blocks into kernel blocks that suit all of the group's backends. Where pages
of other layers lie between a group's blocks, they cannot be cut, and nothing is asked.

Source: vLLM 0.33 ``v1/worker/utils.py`` ``prepare_kernel_block_sizes``,
``select_common_block_size``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import UnsupportedError
from ..kv_cache.group import KVCacheGroup
from ..kv_cache.layout import is_block_outermost
from ..kv_cache.specs import AttentionSpec
from ..records import replace
from .attention_backend import AttentionBackend
from .attention_backend.blocks import KernelBlock
from .cache_layers import CacheLayers


def check_kernel_blocks(cache: CacheLayers, groups: Iterable[KVCacheGroup]) -> None:
    """Refuse as a worker would.

    Raises:
        UnsupportedError: No block size that all backends of a group have in common.
    """
    if is_block_outermost(cache.layout):
        return
    for group in groups:
        if not isinstance(group.spec, AttentionSpec):
            continue
        wanted: dict[tuple[int, int], tuple[AttentionBackend, Sequence[KernelBlock]]] = {}
        for name, spec in group.layers.items():
            backend = cache.backend_of.get(name)
            if backend is not None and isinstance(spec, AttentionSpec):
                key = id(backend), id(spec)
                if key not in wanted:
                    wanted[key] = backend, _blocks(backend, spec)
        if not share_one(group.spec.block_size, [blocks for _, blocks in wanted.values()]):
            sizes = dict.fromkeys(f"{b.name}: {_shown(blocks)}" for b, blocks in wanted.values())
            raise UnsupportedError(
                f"No common block size for {group.spec.block_size} ({'; '.join(sizes)}); "
                "another --block-size or --attention-backend may do"
            )


def _blocks(backend: AttentionBackend, spec: AttentionSpec) -> Sequence[KernelBlock]:
    """What the layer's kernels take; a worker asks where the engine's config can be seen."""
    question = backend.layer_question(
        spec.head_size, spec.head_size_v, spec.kv_cache_dtype, int(spec.tokens_per_state)
    )
    return backend.answer(replace(question, facts=backend.facts))


def share_one(block_size: int, wanted: Sequence[Sequence[KernelBlock]]) -> bool:
    """Whether the block as it is, or a size that some kernel names and that divides it, suits."""
    named = {block.tokens for blocks in wanted for block in blocks if not block.multiples}
    candidates = {block_size, *(size for size in named if block_size % size == 0)}
    return any(all(_takes(blocks, size) for blocks in wanted) for size in candidates)


def _takes(blocks: Sequence[KernelBlock], size: int) -> bool:
    return any(
        size % block.tokens == 0 if block.multiples else size == block.tokens for block in blocks
    )


def _shown(blocks: Sequence[KernelBlock]) -> str:
    return ", ".join(
        f"multiples of {block.tokens}" if block.multiples else str(block.tokens) for block in blocks
    )
