"""Paged and contiguous side by side: the record that ``paging`` answers with.

The blocks are the groups' own (``KVCacheGroup.blocks_per_request``), the bytes of tokens the
specs' own (``KVCacheSpec.bytes_kept``); nothing is counted here a second way.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..kv_cache.capacity import WorkerBlocks
from ..kv_cache.group import KVCacheGroup
from ..kv_cache.spec import cdiv
from ..kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    RequestLimits,
    SlidingWindowSpec,
)
from ..records import dataclass, replace
from ..report import Answer
from ..report.document import Column, Document, Section, Table, lines_of, noted, table_of
from ..units import GIB


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
    """Every group's part of a request with ``tokens`` of ``limits.max_model_len`` computed."""
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


@dataclass(frozen=True, kw_only=True)
class PagedScenario:
    """One scenario; bytes of all its requests together, on one GPU.

    ``paged_bytes`` is ``token_bytes`` and ``unfilled_bytes`` and ``padding_bytes``.

    Attributes:
        requests: How many requests.
        tokens: Tokens of each.
        max_model_len: What the engine is started with.
        contiguous_bytes: Room for ``max_model_len`` tokens in every attention layer, a state where
            a layer keeps one.
        paged_bytes: The blocks that the requests hold while they generate.
        token_bytes: The tokens and states that are kept, counted to the token.
        unfilled_bytes: Slots of those blocks that hold nothing: the last block of every group.
        padding_bytes: What makes every group's block as large as the largest group's.
        freed_bytes: Tokens that windows and chunks let go.
        saved_bytes: ``contiguous_bytes`` less ``paged_bytes``; negative where paging costs more.
        saved_share: The same as a share of ``contiguous_bytes``; None where there is no cache.
        kv_cache_bytes: All blocks of the GPU; None where its KV memory is not known.
        fit_contiguous: Requests of such reservations that this memory holds; None: not known.
        fit_paged: Requests of ``tokens`` tokens that its blocks hold (the null block is nobody's),
            one of them while its prompt is computed; None: not known.
        groups: One request's part of every group.
    """

    requests: int
    tokens: int
    max_model_len: int
    contiguous_bytes: int
    paged_bytes: int
    token_bytes: int
    unfilled_bytes: int
    padding_bytes: int
    freed_bytes: int
    saved_bytes: int
    saved_share: float | None
    kv_cache_bytes: int | None
    fit_contiguous: int | None
    fit_paged: int | None
    groups: tuple[GroupHeld, ...]


@dataclass(frozen=True, kw_only=True)
class PagingComparison(Answer):
    """Paged and contiguous, side by side.

    Attributes:
        model: Its id.
        gpu: The GPU of every rank.
        num_gpus: GPUs of one engine.
        kv_cache_dtype: What the cache is stored in.
        scenarios: In the order given.
        notes: Sentences for the reader.
    """

    model: str
    gpu: str
    num_gpus: int
    kv_cache_dtype: str
    scenarios: tuple[PagedScenario, ...]
    notes: tuple[str, ...]

    def table(self) -> Table:
        """Every figure, a row a scenario."""
        model = Column("model", value=lambda _: self.model)
        return table_of(self.scenarios, (model, *SCENARIO, *SIZES, *POOL, *FIT))

    def document(self) -> Document:
        """What decides, and what its columns mean."""
        named = Column(
            "scenario",
            value=lambda each: f"{each.requests:,} x {each.tokens:,} in {each.max_model_len:,}",
        )
        padded = any(each.padding_bytes for each in self.scenarios)
        sizes = [each for each in SIZES if padded or each.name != "padding_bytes"]
        table = table_of(self.scenarios, (named, *sizes, *FIT))
        remarks = lines_of((*self._remarks(), *noted(self.notes)))
        return Document(sections=(Section(self._title(), (table,)), remarks))

    def _title(self) -> str:
        """Model, device, and the blocks of every group size."""
        sizes = sorted({group.block_size for each in self.scenarios for group in each.groups})
        blocks = f", blocks of {' and '.join(f'{s:,}' for s in sizes)} tokens" if sizes else ""
        return f"{self.model}, bytes on one of {self.num_gpus} x {self.gpu}{blocks}"

    def _remarks(self) -> Iterator[str]:
        """What the figures mean."""
        yield "contiguous: max_model_len tokens reserved for every request; tokens: what is in use"
        yield "unfilled: the last block of every group, a window's first, spare copies of a state"
        pools = {s.kv_cache_bytes for s in self.scenarios if s.kv_cache_bytes is not None}
        if pools:
            ends = sorted({min(pools), max(pools)})
            size = " to ".join(f"{pool / GIB:,.2f} GiB" for pool in ends)
            yield f"fit: requests at once in {size} of KV memory"
        freed = max(each.freed_bytes for each in self.scenarios)
        if freed:
            yield f"windows free up to {freed / GIB:,.2f} GiB, which no block holds any more"


SCENARIO = tuple(Column(name, form="count") for name in ("requests", "tokens", "max_model_len"))
SIZES = (
    Column("contiguous_bytes", "contiguous", "gib"),
    Column("paged_bytes", "paged", "gib"),
    Column("token_bytes", "tokens", "gib"),
    Column("unfilled_bytes", "unfilled", "gib"),
    Column("padding_bytes", "padding", "gib"),
    Column("saved_bytes", "saved", "gib"),
    Column("saved_share", "share", "percent"),
)
POOL = (Column("freed_bytes", form="gib"), Column("kv_cache_bytes", form="gib"))
FIT = (Column("fit_contiguous", "fit unpaged", "count"), Column("fit_paged", "fit paged", "count"))
