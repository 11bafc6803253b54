"""What one request holds of each KV cache group: blocks, and what of their bytes is in use.

The blocks are the groups' own (``KVCacheGroup.blocks_per_request``), the bytes of tokens the
specs' own (``KVCacheSpec.bytes_kept``); nothing is counted here a second way.
"""

from __future__ import annotations

from ..kv_cache.capacity import WorkerBlocks
from ..kv_cache.group import KVCacheGroup
from ..kv_cache.math import cdiv
from ..kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    RequestLimits,
    SlidingWindowSpec,
)
from ..records import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class GroupHeld:
    """One request's part of one group, on one GPU, in bytes where not said otherwise.

    Attributes:
        kind: Kind of the group's layers.
        num_layers: How many there are.
        block_size: Tokens of a block.
        blocks: Blocks it holds while it generates, at most.
        peak_blocks: Blocks it may hold while its prompt is computed: a window frees a token's
            block only once the step that computed the token is settled, a state is exported.
        token_bytes: The tokens (or the state) that are kept.
        unfilled_bytes: The rest of the blocks' slots: the last block, for a window also its first
            one; copies of a state beyond the one in use.
        padding_bytes: What blocks have beside the slots of this group's layers: a block is as large
            as the largest group's.
        freed_bytes: Tokens that a window or chunk let go.
        contiguous_bytes: The same layers with room for ``max_model_len`` tokens in one piece.
    """

    kind: str
    num_layers: int
    block_size: int
    blocks: int
    peak_blocks: int
    token_bytes: int
    unfilled_bytes: int
    padding_bytes: int
    freed_bytes: int
    contiguous_bytes: int


def held_by_request(
    worker: WorkerBlocks, limits: RequestLimits, *, tokens: int
) -> tuple[GroupHeld, ...]:
    """Every group's part of a request of ``tokens`` tokens.

    Args:
        worker: The rank.
        limits: Of a request of the engine's ``max_model_len``.
        tokens: Computed so far, at most ``max_model_len``.
    """
    return tuple(
        held_of_group(group, worker.bytes_per_block, limits, tokens) for group in worker.groups
    )


def held_of_group(
    group: KVCacheGroup, bytes_per_block: int, limits: RequestLimits, tokens: int
) -> GroupHeld:
    """One group's part."""
    now = limits.at_length(tokens)
    # a request that generates has one token in flight, whatever a step may take
    one_token = replace(now, max_in_flight_tokens=1)
    blocks = blocks_of(group, one_token, generating=True)
    page = sum(count * spec.unpadded_page_size_bytes for spec, count in group.distinct)
    kept = bytes_of(group, now)
    return GroupHeld(
        kind=group.spec.kind,
        num_layers=len(group.layers),
        block_size=group.spec.block_size,
        blocks=blocks,
        peak_blocks=blocks_of(group, now, generating=False),
        token_bytes=kept,
        unfilled_bytes=blocks * page - kept,
        padding_bytes=blocks * (bytes_per_block - page),
        freed_bytes=bytes_of(group, now, windows=False) - kept,
        contiguous_bytes=bytes_of(group, limits, windows=False),
    )


def blocks_of(group: KVCacheGroup, limits: RequestLimits, *, generating: bool) -> int:
    """Blocks of the group at most; never more than its tokens have.

    Source: vLLM 0.33 ``SingleTypeKVCacheManager.get_num_blocks_to_allocate``: the tokens' blocks,
    capped at the group's bound (which, for windows, is one more than a short request fills);
    ``MambaManager._needs_internal_checkpoint``: a state is exported while the prompt is computed.
    """
    blocks = group.blocks_per_request(limits)
    spec = group.spec
    filled = cdiv(limits.max_model_len, spec.block_size)
    if isinstance(spec, SlidingWindowSpec):
        return min(blocks, filled)
    if isinstance(spec, MambaSpec):
        if generating and limits.mamba_cache_mode == "align":
            blocks -= spec.num_prefill_checkpoint_blocks
        return min(blocks, filled + spec.num_speculative_blocks)
    return blocks


def bytes_of(group: KVCacheGroup, limits: RequestLimits, *, windows: bool = True) -> int:
    """Bytes the group's layers keep of a request, token by token."""
    total = 0
    for spec, count in group.distinct:
        ranks = limits.decode_context_parallel_size if spec.dcp_sharded else 1
        tokens = cdiv(limits.max_model_len, ranks)
        layer = spec if windows else without_window(spec, tokens)
        total += count * layer.bytes_kept(tokens, limits)
    return total


def without_window(spec: KVCacheSpec, tokens: int) -> KVCacheSpec:
    """The layer with a window that nothing falls out of."""
    if isinstance(spec, SlidingWindowSpec):
        return replace(spec, sliding_window=max(tokens, spec.sliding_window))
    if isinstance(spec, ChunkedLocalAttentionSpec):
        return replace(spec, attention_chunk_size=max(tokens, spec.attention_chunk_size))
    return spec
