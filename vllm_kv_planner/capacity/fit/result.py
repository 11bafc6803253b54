"""Answers of a search and of the single questions, as documents and tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from ...records import dataclass, fields
from ...report import Answer
from ...report.document import (
    Code,
    Column,
    Document,
    Lines,
    Section,
    Table,
    lines_of,
    noted,
    table_of,
)
from .offer import Miss, Offer
from .suggestions import Suggestion

ASKED = {
    "max-model-len": "largest max_model_len",
    "min-utilization": "smallest gpu_memory_utilization",
    "min-gpus": "fewest GPUs",
}


@dataclass(frozen=True, kw_only=True)
class DeviceAnswer:
    """What one device answers.

    Attributes:
        model: The model's id.
        gpu: The device, by its short name.
        num_gpus: How many of them.
        value: The largest ``max_model_len`` in tokens, the smallest ``gpu_memory_utilization``,
            or the fewest GPUs; None where no value is enough.
        sure_requests: Requests that surely run at once there; None where nothing is cached.
        message: Why there is no value; empty where there is one.
        command: The ``vllm serve`` line; empty where there is none.
    """

    model: str
    gpu: str
    num_gpus: int
    value: int | float | None
    sure_requests: int | None
    message: str
    command: str


@dataclass(frozen=True, kw_only=True)
class DeviceAnswers(Answer):
    """One question, answered for every device asked about.

    Attributes:
        question: ``max-model-len``, ``min-utilization`` or ``min-gpus``.
        concurrency: Requests at once, all data-parallel engines together.
        max_model_len: Context asked for; None: the model's own, or the question itself.
        answers: One for each device, in the order named.
        notes: Sentences for the reader.
    """

    question: str
    concurrency: int
    max_model_len: int | None
    answers: tuple[DeviceAnswer, ...]
    notes: tuple[str, ...]

    @property
    def answered(self) -> bool:
        """Whether any device has a value."""
        return any(each.value is not None for each in self.answers)

    def table(self) -> Table:
        """One row a device."""
        return table_of(self.answers, DEVICE)

    def document(self) -> Document:
        """Question, table, commands."""
        number = () if self.question == "min-gpus" else (Column("num_gpus", "GPUs", "count"),)
        value = Column("value", ASKED[self.question], "count")
        at_once = Column("sure_requests", "at once", "count")
        columns = (Column("gpu", "GPU"), *number, value, at_once, Column("message"))
        gpus: dict[str, list[str]] = {}
        for each in self.answers:
            if each.command:
                gpus.setdefault(each.command, []).append(each.gpu)
        lines = [
            line for command, mine in gpus.items() for line in (f"# {', '.join(mine)}", command)
        ]
        models = " or ".join(dict.fromkeys(each.model for each in self.answers if each.model))
        context = "" if self.max_model_len is None else f" of {self.max_model_len:,} tokens"
        asked = f"{ASKED[self.question]} for {requests(self.concurrency)}{context} at once"
        return Document(
            sections=(
                Section(f"{models}: {asked}"),
                Section(body=(table_of(self.answers, columns),)),
                *([Section(body=(Code(tuple(lines)),))] if lines else ()),
                *(lines_of((note,)) for note in noted(self.notes)),
            )
        )


DEVICE = (
    Column("model"),
    Column("gpu"),
    *(Column(name, form="count") for name in ("num_gpus", "value", "sure_requests")),
    Column("message"),
    Column("command"),
)


@dataclass(frozen=True, kw_only=True)
class FitResult(Answer):
    """The set-ups that do what was asked for, best first.

    Attributes:
        models: The models tried.
        gpus: The devices tried.
        max_model_len: Context asked for, in tokens; None: each model's own.
        concurrency: Requests at once asked for.
        max_gpus: GPUs at most.
        max_nodes: Machines at most.
        offers: Set-ups, best first.
        tried: Set-ups looked at; the search stops when it has enough offers.
        misses: Where a device does not do it, the nearest it came, for each model.
        nearest: The set-up that came nearest, where there is no offer.
        suggestions: What would bring that one nearer, single flags; the smallest change first.
        notes: Sentences for the reader.
    """

    models: tuple[str, ...]
    gpus: tuple[str, ...]
    max_model_len: int | None
    concurrency: int
    max_gpus: int
    max_nodes: int
    offers: tuple[Offer, ...]
    tried: int
    misses: tuple[Miss, ...]
    nearest: Offer | None
    suggestions: tuple[Suggestion, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Offer | None:
        """The first offer; None where there is none."""
        return self.offers[0] if self.offers else None

    def table(self) -> Table:
        """One row an offer, everything in it."""
        forms = {
            each.name: "gib" if each.name.endswith("_bytes") else "count" for each in fields(Offer)
        } | dict.fromkeys(TEXTS, "text")
        columns = [Column(name, form=form) for name, form in forms.items() if name not in LEFT_OUT]
        return table_of(self.offers, columns)

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain dictionaries and lists, ``schema_version`` first."""
        plain = super().to_dict()
        plain["offers"] = [offer.to_dict() for offer in self.offers]
        plain["nearest"] = None if self.nearest is None else self.nearest.to_dict()
        return plain

    def document(self) -> Document:
        """Question, table, commands; where nothing fits, what came nearest."""
        sections = [Section(self._question())]
        if self.offers:
            sections += [Section(body=(self._short_table(),)), Section(body=(self._commands(),))]
        else:
            sections.append(Section("no set-up fits", style="red"))
        sections += [
            lines_of(self._why_not_fewer()),
            *self._nearest(),
            *(self._misses() if self.misses else ()),
            *(lines_of((note,)) for note in noted(self.notes)),
        ]
        return Document(sections=tuple(sections))

    def _question(self) -> str:
        """What was asked for, on one line."""
        length = self.max_model_len
        context = "its own context" if length is None else f"{length:,} tokens"
        asked = f"{requests(self.concurrency)} of {context} at once"
        plural = "" if self.max_gpus == 1 else "s"
        return f"{' or '.join(self.models)}: {asked}, up to {self.max_gpus} GPU{plural}"

    def _short_table(self) -> Table:
        """The columns that fit a terminal; model, price, KV dtype and doubt where they differ."""
        several = len(self.models) > 1
        shown = {
            "model": several,
            "price": any(offer.price is not None for offer in self.offers),
            "kv_cache_dtype": len({offer.kv_cache_dtype for offer in self.offers}) > 1,
            "max_num_batched_tokens": not several,
            "surely": not all(offer.surely for offer in self.offers),
        }
        number = Column("#", form="count", value=lambda offer: self.offers.index(offer) + 1)
        columns = [number, *(each for each in SHORT if shown.get(each.name, True))]
        return table_of(self.offers, columns)

    def _commands(self) -> Code:
        """Every command once, under the numbers of its offers; machines one below the other."""
        numbers: dict[tuple[str, ...], list[str]] = {}
        for number, offer in enumerate(self.offers, 1):
            numbers.setdefault(offer.node_commands, []).append(str(number))
        lines = ((f"# {', '.join(mine)}", *commands) for commands, mine in numbers.items())
        return Code(tuple(chain.from_iterable(lines)))

    def _why_not_fewer(self) -> dict[str, None]:
        """Why fewer of each device are not enough, each once."""
        several = len({offer.kv_cache_dtype for offer in self.offers}) > 1
        return dict.fromkeys(
            f"  {offer.gpus}{f' ({offer.kv_cache_dtype})' if several else ''}, "
            f"fewer are not enough: {offer.why_not_fewer}"
            for offer in self.offers
            if offer.why_not_fewer
        )

    def _nearest(self) -> Iterator[Section]:
        """What came near, and what would help."""
        if self.nearest is None:
            return
        yield Section(
            f"nearest: {self.nearest.gpus} ({self.nearest.parallel}), "
            f"{self.nearest.sure_requests or 0:,} requests at once",
            (Code((self.nearest.command,)),),
            "",
        )
        if self.suggestions:
            lines = Lines(tuple(f"  {each.line}" for each in self.suggestions))
            yield Section("one flag changed there:", (lines,), "")

    def _misses(self) -> Iterator[Section]:
        """The nearest misses, each with its reason."""
        nearest = sorted(self.misses, key=lambda miss: -(miss.requests or 0))
        several = len(self.models) > 1
        lines = [
            f"  {f'{miss.model} on ' if several else ''}{miss.gpu}: {miss.message}"
            for miss in nearest[:MISSES_SHOWN]
        ]
        if len(nearest) > MISSES_SHOWN:
            lines.append(f"  and {len(nearest) - MISSES_SHOWN} more")
        yield Section("does not fit on", (Lines(tuple(lines)),), "")


def requests(count: int) -> str:
    """``1 request``, ``20 requests``."""
    return f"{count:,} request{'' if count == 1 else 's'}"


MISSES_SHOWN = 8
LEFT_OUT = ("request", "node_commands")
TEXTS = ("model", "gpu", "kv_cache_dtype", "limited_by", "why_not_fewer", "command")
"""Fields of an offer that its row has no place for, and those that are no numbers."""
SHORT = (
    Column("model", value=lambda offer: offer.model.rpartition("/")[2]),
    Column("gpus", "GPUs"),
    Column("price", form="count"),
    Column("parallel"),
    Column("kv_cache_dtype", "KV dtype"),
    Column("max_num_seqs", "max seqs", "count"),
    Column("max_num_batched_tokens", "step tokens", "count"),
    Column("available_kv_cache_bytes", "KV/GPU", "gib"),
    Column("at_once", "at once", "count"),
    Column("spare_bytes", "spare/GPU", "gib"),
    Column("limited_by", "limited by"),
    Column("surely", value=lambda offer: "" if offer.surely else "borderline"),
)
"""What a terminal shows of an offer, some of it only where offers differ in it."""
