"""Paged and contiguous side by side: the record that ``paging`` answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..records import dataclass
from .answer import Answer
from .held import GroupHeld

if TYPE_CHECKING:
    from ..report.table import Table


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
        from ..report.paging_report import full_table

        return full_table(self)

    def __str__(self) -> str:
        from ..report.paging_report import to_text

        return to_text(self)
