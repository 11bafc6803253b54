"""A ``FitResult`` for people: a table of offers, their command lines below it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import printable
from ..records import fields
from ..units import GIB
from .table import Column, Table
from .table import to_html as table_html
from .table import to_markdown as table_markdown
from .table import to_text as table_text
from .terminal import paint

if TYPE_CHECKING:
    from ..capacity.fit.result import FitResult, Offer
    from ..capacity.fit.suggestion import Suggestion

_BYTES = ("available_kv_cache_bytes", "uncertainty_bytes", "spare_bytes", "total_memory_bytes")
_NOT_IN_ROWS = ("request", "node_commands")


def offers_table(result: FitResult) -> Table:
    """One row an offer, every field a column."""
    from ..capacity.fit.result import Offer

    names = [name for name in _field_names(Offer) if name not in _NOT_IN_ROWS]
    columns = tuple(Column(name=name, form=_form(name)) for name in names)
    rows = tuple(tuple(getattr(offer, name) for name in names) for offer in result.offers)
    return Table(columns=columns, rows=rows)


def _field_names(record: type) -> list[str]:
    return [each.name for each in fields(record)]


MISSES_SHOWN = 8

_TEXTS = ("model", "gpu", "kv_cache_dtype", "limited_by", "why_not_fewer", "command")


def _form(name: str) -> str:
    if name in _BYTES:
        return "gib"
    return "text" if name in _TEXTS else "count"


def to_text(result: FitResult, *, colour: bool = False) -> str:
    """Question, table, commands; where nothing does it, what came nearest. No final newline."""
    parts = [paint(question(result), "bold", colour=colour)]
    if result.offers:
        parts.append(table_text(short_table(result), colour=colour))
        parts.append(plain(command_lines(result)))
    else:
        parts.append(paint("no set-up does it", "red", colour=colour))
    parts += tails(result)
    return "\n\n".join(parts)


def plain(lines: Iterable[str]) -> str:
    """Lines whose text cannot steer a terminal."""
    return "\n".join(map(printable, lines))


def to_markdown(result: FitResult) -> str:
    """The same as Markdown; no final newline."""
    parts = [f"**{question(result)}**"]
    if result.offers:
        parts.append(table_markdown(short_table(result)))
        parts.append("```sh\n" + plain(command_lines(result)) + "\n```")
    else:
        parts.append("no set-up does it")
    parts += [re.sub("(?m)^  ", "- ", part) for part in tails(result)]
    return "\n\n".join(parts)


def to_html(result: FitResult) -> str:
    """For notebooks: the short table, the rest as text below it."""
    from html import escape

    below = [*command_lines(result), "", *tails(result)] if result.offers else tails(result)
    text = "\n".join(below).strip()
    table = table_html(short_table(result)) if result.offers else "<p>no set-up does it</p>"
    return f"<p><b>{escape(question(result))}</b></p>{table}<pre>{escape(text)}</pre>"


def question(result: FitResult) -> str:
    """What was asked for, on one line."""
    context = "its own context"
    if result.max_model_len is not None:
        context = f"{result.max_model_len:,} tokens"
    plural = "" if result.concurrency == 1 else "s"
    gpus_plural = "" if result.max_gpus == 1 else "s"
    models = printable(" or ".join(result.models))
    return (
        f"{models}: {result.concurrency:,} request{plural} of {context} "
        f"at once, up to {result.max_gpus} GPU{gpus_plural}"
    )


def short_table(result: FitResult) -> Table:
    """The columns that fit a terminal; model, price, KV dtype and doubt where they differ."""
    offers = result.offers
    several = len(result.models) > 1
    priced = any(offer.price is not None for offer in offers)
    dtypes = {offer.kv_cache_dtype for offer in offers}
    columns: list[tuple[Column, Callable[[Offer], Any]] | None] = [
        (Column(name="#", form="count"), lambda offer: offers.index(offer) + 1),
        (Column(name="model"), lambda o: o.model.rpartition("/")[2]) if several else None,
        (Column(name="gpus", title="GPUs"), gpus),
        (Column(name="price", form="count"), lambda offer: offer.price) if priced else None,
        (Column(name="parallel"), parallel),
        (Column(name="kv", title="KV dtype"), lambda o: o.kv_cache_dtype)
        if len(dtypes) > 1
        else None,
        (Column(name="seqs", title="max seqs", form="count"), lambda offer: offer.max_num_seqs),
        None
        if several
        else (
            Column(name="tokens", title="step tokens", form="count"),
            lambda offer: offer.max_num_batched_tokens,
        ),
        (
            Column(name="kv_bytes", title="KV/GPU", form="gib"),
            lambda offer: offer.available_kv_cache_bytes,
        ),
        (Column(name="sure", title="at once", form="count"), at_once),
        (Column(name="spare", title="spare/GPU", form="gib"), lambda offer: offer.spare_bytes),
        (Column(name="limit", title="limited by"), lambda offer: offer.limited_by),
        None
        if all(offer.surely for offer in offers)
        else (Column(name="surely", title=""), lambda o: "" if o.surely else "borderline"),
    ]
    shown = [each for each in columns if each is not None]
    return Table(
        columns=tuple(column for column, _ in shown),
        rows=tuple(tuple(value(offer) for _, value in shown) for offer in offers),
    )


def gpus(offer: Offer) -> str:
    """``2 x L4``."""
    return f"{offer.num_gpus} x {offer.gpu}"


def parallel(offer: Offer) -> str:
    """``TP4 PP2``; what is 1 is left out."""
    sizes = {
        "TP": offer.tensor_parallel_size,
        "PP": offer.pipeline_parallel_size,
        "DP": offer.data_parallel_size,
    }
    words = [f"{name}{size}" for name, size in sizes.items() if size > 1]
    if offer.enable_expert_parallel:
        words.append("EP")
    return " ".join(words) or "-"


def at_once(offer: Offer) -> int | None:
    """Requests that surely run at once; of a borderline set-up the likely ones."""
    return offer.sure_requests if offer.surely else int(offer.concurrency)


def command_lines(result: FitResult) -> Iterator[str]:
    """Every command once, under the numbers of its offers; machines one below the other."""
    numbers: dict[tuple[str, ...], list[int]] = {}
    for number, offer in enumerate(result.offers, 1):
        numbers.setdefault(offer.node_commands, []).append(number)
    for commands, mine in numbers.items():
        yield f"# {', '.join(map(str, mine))}"
        yield from commands


def fewer_lines(result: FitResult) -> Iterator[str]:
    """Why the fewest of each device are not fewer."""
    several = len({offer.kv_cache_dtype for offer in result.offers}) > 1
    for offer in result.offers:
        if offer.why_not_fewer:
            dtype = f" ({offer.kv_cache_dtype})" if several else ""
            yield f"  {gpus(offer)}{dtype}, not fewer: {offer.why_not_fewer}"


def tails(result: FitResult) -> list[str]:
    """What came near, what would help, and notes."""
    parts = []
    fewer = dict.fromkeys(fewer_lines(result))
    if fewer:
        parts.append(plain(fewer))
    if result.nearest is not None:
        nearest = result.nearest
        parts.append(
            f"nearest: {gpus(nearest)} ({parallel(nearest)}), "
            f"{nearest.sure_requests or 0:,} requests at once\n{printable(nearest.command)}"
        )
        if result.suggestions:
            parts.append("one flag more on that one:\n" + plain(map(line, result.suggestions)))
    if result.misses:
        parts.append("not with\n" + plain(miss_lines(result)))
    parts += [f"note: {printable(note)}" for note in result.notes]
    return parts


def miss_lines(result: FitResult) -> Iterator[str]:
    """The nearest misses, each with its reason."""
    nearest = sorted(result.misses, key=lambda miss: -(miss.requests or 0))
    several = len(result.models) > 1
    for miss in nearest[:MISSES_SHOWN]:
        model = f"{miss.model} on " if several else ""
        yield f"  {model}{miss.gpu}: {miss.message}"
    if len(nearest) > MISSES_SHOWN:
        yield f"  and {len(nearest) - MISSES_SHOWN} more"


def line(each: Suggestion) -> str:
    """``--enforce-eager: +0.50 GiB a GPU, 1.10x the requests (slower decoding)``."""
    bought = []
    if each.available_delta_bytes:
        bought.append(f"{each.available_delta_bytes / GIB:+,.2f} GiB a GPU")
    if each.concurrency_ratio is not None:
        bought.append(f"{each.concurrency_ratio:.2f}x the requests")
    does = "fits: " if each.fits else ""
    return f"  {each.text}: {does}{', '.join(bought)} ({each.costs})"
