"""Paged and contiguous for people: one table, and what its columns mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..capacity.paged import PagedScenario, PagingComparison
from ..errors import printable
from .table import Column, Table
from .table import to_markdown as markdown_table
from .table import to_text as text_table
from .terminal import paint

Columns = list[tuple[Column, Callable[[PagedScenario], object]]]


def to_text(comparison: PagingComparison, *, colour: bool = False) -> str:
    """Heading, table, meaning; no final newline."""
    table = text_table(short_table(comparison), colour=colour)
    heading = paint(title(comparison), "bold", colour=colour)
    return "\n".join([heading, table, "", *remarks(comparison)])


def to_markdown(comparison: PagingComparison) -> str:
    """The same as Markdown."""
    table = markdown_table(short_table(comparison))
    listed = [f"- {each}" for each in remarks(comparison)]
    return "\n".join([f"## {title(comparison)}", "", table, "", *listed])


def title(comparison: PagingComparison) -> str:
    """Model, device, and the blocks of every group size."""
    sizes = sorted({group.block_size for each in comparison.scenarios for group in each.groups})
    blocks = f", blocks of {' and '.join(f'{size:,}' for size in sizes)} tokens" if sizes else ""
    return (
        f"{printable(comparison.model)}, bytes on one of {comparison.num_gpus} x "
        f"{printable(comparison.gpu)}{blocks}"
    )


def remarks(comparison: PagingComparison) -> Iterator[str]:
    """What the figures mean."""
    known = (each.kv_cache_bytes for each in comparison.scenarios)
    pools = sorted({size for size in known if size is not None})
    yield "contiguous: max_model_len tokens reserved for every request; tokens: what is in use"
    yield "unfilled: the last block of every group, a window's first, spare copies of a state"
    if pools:
        size = " to ".join(f"{pool / (1 << 30):,.2f} GiB" for pool in ends(pools))
        yield f"fit: requests at once in {size} of KV memory"
    freed = max(each.freed_bytes for each in comparison.scenarios)
    if freed:
        yield f"windows let go of up to {freed / (1 << 30):,.2f} GiB, which no block holds any more"
    yield from (f"note: {each}" for each in comparison.notes)


def ends(values: list[int]) -> list[int]:
    """The first and the last, once where they are the same."""
    return values[:1] if values[0] == values[-1] else [values[0], values[-1]]


def short_table(comparison: PagingComparison) -> Table:
    """What decides."""
    columns = [(Column(name="scenario"), named), *byte_columns(), *fit_columns()]
    if not any(each.padding_bytes for each in comparison.scenarios):
        columns = [each for each in columns if each[0].name != "padding_bytes"]
    return made(comparison, columns)


def full_table(comparison: PagingComparison) -> Table:
    """Everything, for programs."""
    plain: Columns = [
        (Column(name="model"), lambda _: comparison.model),
        (Column(name="requests", form="count"), lambda each: each.requests),
        (Column(name="tokens", form="count"), lambda each: each.tokens),
        (Column(name="max_model_len", form="count"), lambda each: each.max_model_len),
    ]
    more: Columns = [
        (Column(name="freed_bytes", form="gib"), lambda each: each.freed_bytes),
        (Column(name="kv_cache_bytes", form="gib"), lambda each: each.kv_cache_bytes),
    ]
    return made(comparison, [*plain, *byte_columns(), *more, *fit_columns()])


def made(comparison: PagingComparison, columns: Columns) -> Table:
    """A row a scenario."""
    return Table(
        columns=tuple(column for column, _ in columns),
        rows=tuple(tuple(cell(each) for _, cell in columns) for each in comparison.scenarios),
    )


def named(each: PagedScenario) -> str:
    """``100 x 512 in 8,192``."""
    return f"{each.requests:,} x {each.tokens:,} in {each.max_model_len:,}"


def byte_columns() -> Columns:
    """Sizes."""
    return [
        (
            Column(name="contiguous_bytes", title="contiguous", form="gib"),
            lambda each: each.contiguous_bytes,
        ),
        (Column(name="paged_bytes", title="paged", form="gib"), lambda each: each.paged_bytes),
        (Column(name="token_bytes", title="tokens", form="gib"), lambda each: each.token_bytes),
        (
            Column(name="unfilled_bytes", title="unfilled", form="gib"),
            lambda each: each.unfilled_bytes,
        ),
        (
            Column(name="padding_bytes", title="padding", form="gib"),
            lambda each: each.padding_bytes,
        ),
        (Column(name="saved_bytes", title="saved", form="gib"), lambda each: each.saved_bytes),
        (Column(name="saved_share", title="share", form="percent"), lambda each: each.saved_share),
    ]


def fit_columns() -> Columns:
    """Requests at once."""
    return [
        (
            Column(name="fit_contiguous", title="fit unpaged", form="count"),
            lambda each: each.fit_contiguous,
        ),
        (Column(name="fit_paged", title="fit paged", form="count"), lambda each: each.fit_paged),
    ]
