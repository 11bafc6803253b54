"""Answers to the single questions: one row a device, or one row a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...records import dataclass
from ..answer import Answer
from .suggestion import Suggestion

if TYPE_CHECKING:
    from ...report.table import Table


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
        from ...report.question_report import answers_table

        return answers_table(self)

    def __str__(self) -> str:
        from ...report.question_report import answers_text

        return answers_text(self)


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
        from ...report.question_report import suggestions_table

        return suggestions_table(self)

    def __str__(self) -> str:
        from ...report.question_report import suggestions_text

        return suggestions_text(self)
