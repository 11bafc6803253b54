"""Answers to the single questions: one row a device, or one row a change."""

from __future__ import annotations

from ...records import dataclass
from ...report.answer import Answer
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
from .suggestion import Suggestion

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
            or the fewest GPUs; None where none does it.
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
        """Whether any device does it."""
        return any(each.value is not None for each in self.answers)

    def table(self) -> Table:
        """One row a device."""
        return table_of(self.answers, DEVICE)

    def document(self) -> Document:
        """Question, table, commands."""
        columns = [Column("gpu", "GPU"), Column("num_gpus", "GPUs", "count")]
        columns = columns[: 1 if self.question == "min-gpus" else 2]
        columns += [Column("value", ASKED[self.question], "count")]
        columns += [Column("sure_requests", "at once", "count"), Column("message")]
        gpus: dict[str, list[str]] = {}
        for each in self.answers:
            if each.command:
                gpus.setdefault(each.command, []).append(each.gpu)
        lines = [
            line for command, mine in gpus.items() for line in (f"# {', '.join(mine)}", command)
        ]
        return Document(
            sections=(
                Section(self._asked()),
                Section(body=(table_of(self.answers, columns),)),
                *([Section(body=(Code(tuple(lines)),))] if lines else ()),
                *(lines_of((note,)) for note in noted(self.notes)),
            )
        )

    def _asked(self) -> str:
        """The question on one line."""
        plural = "" if self.concurrency == 1 else "s"
        context = "" if self.max_model_len is None else f" of {self.max_model_len:,} tokens"
        models = " or ".join(dict.fromkeys(each.model for each in self.answers if each.model))
        requests = f"{self.concurrency:,} request{plural}{context}"
        return f"{models}: {ASKED[self.question]} for {requests} at once"


DEVICE = (
    Column("model"),
    Column("gpu"),
    *(Column(name, form="count") for name in ("num_gpus", "value", "sure_requests")),
    Column("message"),
    Column("command"),
)


@dataclass(frozen=True, kw_only=True)
class Suggestions(Answer):
    """What each single change of one engine buys.

    Attributes:
        model: The model's id.
        gpu: The device, by its name.
        num_gpus: Of all ranks.
        concurrency: Requests at once asked for.
        fits: Whether the engine does that already.
        why_not: Why not; empty where it does.
        available_kv_cache_bytes: KV memory of its tightest GPU.
        current_concurrency: Requests of ``max_model_len`` at once, all engines together.
        max_model_len: Tokens.
        suggestions: Those that make it fit first, the smallest change first.
        command: The engine as it is.
        notes: Sentences for the reader.
    """

    model: str
    gpu: str
    num_gpus: int
    concurrency: int
    fits: bool
    why_not: str
    available_kv_cache_bytes: int
    current_concurrency: float
    max_model_len: int
    suggestions: tuple[Suggestion, ...]
    command: str
    notes: tuple[str, ...]

    def table(self) -> Table:
        """One row a change."""
        return table_of(self.suggestions, CHANGE)

    def document(self) -> Document:
        """What there is, and what each change buys."""
        does = "fits" if self.fits else f"does not fit: {self.why_not}"
        state = (
            f"{self.model} on {self.num_gpus} x {self.gpu}, "
            f"{self.concurrency:,} x {self.max_model_len:,} tokens: {does}"
        )
        lines = [f"  {each.line}" for each in self.suggestions]
        lines = lines or ["  no single flag changes that"]
        return Document(sections=(Section(state, (Lines((*lines, *noted(self.notes))),)),))


CHANGE = (
    *map(Column, ("flag", "text", "fits")),
    *(Column(name, form="gib") for name in ("available_kv_cache_bytes", "available_delta_bytes")),
    *(Column(name, form="times") for name in ("concurrency", "concurrency_ratio")),
    Column("max_model_len_that_fits", form="count"),
    Column("costs"),
)
