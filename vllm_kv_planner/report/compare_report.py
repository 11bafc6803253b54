"""The comparison of models for people: two tables, what a request takes and what a GPU holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..capacity.compared import ComparedModel, ModelComparison, RequestFigures
from ..capacity.known_memory import HAND_MADE
from ..errors import printable
from .table import Column, Table
from .table import to_markdown as markdown_table
from .table import to_text as text_table
from .terminal import paint
from .text import change_text

Cell = Callable[[ComparedModel], object]
Columns = list[tuple[Column, Cell]]


def to_text(comparison: ModelComparison, *, colour: bool = False) -> str:
    """Both tables, then who was not planned and why; no final newline."""
    parts = []
    for title, table in sections(comparison):
        parts += [paint(title, "bold", colour=colour), text_table(table, colour=colour), ""]
    return "\n".join([*parts, *remarks(comparison)]).rstrip("\n")


def to_markdown(comparison: ModelComparison) -> str:
    """The same as Markdown."""
    parts = []
    for title, table in sections(comparison):
        parts += [f"## {title}", "", markdown_table(table), ""]
    return "\n".join([*parts, *(f"- {each}" for each in remarks(comparison))]).rstrip("\n")


def sections(comparison: ModelComparison) -> Iterator[tuple[str, Table]]:
    """The two tables under their titles."""
    where = "one GPU"
    if comparison.gpu is not None:
        where = f"{comparison.num_gpus} x {printable(comparison.gpu)}"
    yield "KV cache of one request, on one GPU", made(comparison, request_columns(comparison))
    yield f"Requests at once, on {where}", made(comparison, engine_columns(comparison))


def remarks(comparison: ModelComparison) -> Iterator[str]:
    """What the figures mean, and the models without any."""
    yield "requests at once: as vLLM logs it with that --max-model-len; below 1x it does not start"
    for each in comparison.models:
        if each.reason is not None:
            what = "not planned" if each.bytes_per_token is None else "memory not known"
            yield f"{what}: {printable(each.model)}: {each.reason}"
        elif each.available_kv_cache_bytes is None:
            yield f"{printable(each.model)}: {HAND_MADE}"
        elif each.at_maximum is not None and each.at_maximum.request_bytes == 0:
            yield f"{printable(each.model)} keeps no KV cache"
    yield from (f"note: {printable(note)}" for note in comparison.notes)


def full_table(comparison: ModelComparison) -> Table:
    """Everything in one table, for programs."""
    columns = [
        *request_columns(comparison),
        *engine_columns(comparison)[1:],
        (Column(name="fits", form="text"), lambda each: at_most(each, "fits")),
        (Column(name="verdict"), lambda each: each.verdict),
        (Column(name="limits"), lambda each: "; ".join(each.limits) or None),
        (Column(name="changes"), lambda each: "; ".join(map(change_text, each.changes)) or None),
        (Column(name="reason"), lambda each: each.reason),
    ]
    return made(comparison, columns)


def made(comparison: ModelComparison, columns: Columns) -> Table:
    """A row a model."""
    return Table(
        columns=tuple(column for column, _ in columns),
        rows=tuple(tuple(cell(each) for _, cell in columns) for each in comparison.models),
    )


def request_columns(comparison: ModelComparison) -> Columns:
    """What the cache takes."""
    columns: Columns = [
        (Column(name="model"), lambda each: each.model),
        (
            Column(name="bytes_per_token", title="bytes per token", form="count"),
            lambda each: each.bytes_per_token,
        ),
    ]
    for number, length in enumerate(comparison.lengths):
        column = Column(name=f"request_bytes_{length}", title=f"{length:,} tokens", form="gib")
        columns.append((column, at_length(number, "request_bytes")))
    return [
        *columns,
        (
            Column(name="request_bytes_max", title="at maximum", form="gib"),
            lambda each: at_most(each, "request_bytes"),
        ),
        (
            Column(name="max_model_len", title="max_model_len", form="count"),
            lambda each: each.max_model_len,
        ),
    ]


def engine_columns(comparison: ModelComparison) -> Columns:
    """What the GPU holds."""
    columns: Columns = [
        (Column(name="model"), lambda each: each.model),
        (
            Column(name="weights_bytes", title="weights", form="gib"),
            lambda each: each.weights_bytes,
        ),
        (
            Column(name="available_kv_cache_bytes", title="KV memory", form="gib"),
            lambda each: each.available_kv_cache_bytes,
        ),
    ]
    for number, length in enumerate(comparison.lengths):
        column = Column(name=f"max_concurrency_{length}", title=f"of {length:,}", form="times")
        columns.append((column, at_length(number, "max_concurrency")))
    return [
        *columns,
        (
            Column(name="max_concurrency_max", title="at maximum", form="times"),
            lambda each: at_most(each, "max_concurrency"),
        ),
        (
            Column(name="max_model_len_that_fits", title="fits up to", form="count"),
            lambda each: each.max_model_len_that_fits,
        ),
    ]


def at_length(number: int, name: str) -> Cell:
    """A figure at one of the lengths."""
    return lambda each: figure(each.at[number] if each.at else None, name)


def at_most(each: ComparedModel, name: str) -> object:
    """A figure at the model's maximum."""
    return figure(each.at_maximum, name)


def figure(figures: RequestFigures | None, name: str) -> object:
    """One figure; None where there is none."""
    return None if figures is None else getattr(figures, name)
