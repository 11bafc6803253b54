"""Paged and contiguous side by side: the record that ``paging`` answers with."""

from __future__ import annotations

from collections.abc import Iterator

from ..records import dataclass
from ..report.answer import Answer
from ..report.document import Column, Document, Section, Table, lines_of, noted, table_of
from ..units import GIB
from .held import GroupHeld


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
            yield f"windows let go of up to {freed / GIB:,.2f} GiB, which no block holds any more"


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
FIT = (
    Column("fit_contiguous", "fit unpaged", "count"),
    Column("fit_paged", "fit paged", "count"),
)
