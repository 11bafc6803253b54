"""What real starts taught, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..calibration.lesson import Lesson
from ..records import dataclass
from ..report.answer import Answer
from ..report.document import Document, lines_of, noted
from ..units import gib

LABELS = {
    "total_bytes": "GPU's total memory",
    "taken_at_start_bytes": "taken before the start",
    "weights_bytes": "weights",
    "activation_bytes": "activation peak",
    "outside_bytes": "outside PyTorch",
    "graph_estimate_bytes": "CUDA graphs, estimated",
}


@dataclass(frozen=True, kw_only=True)
class Learned(Answer):
    """Lessons, and the file that keeps them.

    Attributes:
        file: Its path.
        lessons: One a log, as the file holds them.
        notes: Sentences for the reader.
    """

    file: str
    lessons: tuple[Lesson, ...]
    notes: tuple[str, ...]

    def document(self) -> Document:
        """One paragraph a log."""
        kept = (f"kept in {self.file}", *noted(self.notes))
        lines = (line for each in self.lessons for line in lesson_lines(each))
        return Document(sections=(lines_of((*lines, *kept)),))

    def to_dict(self) -> dict[str, Any]:
        """As the file holds them."""
        lessons = [each.to_dict() for each in self.lessons]
        return {"file": self.file, "lessons": lessons, "notes": [*self.notes]}


def lesson_lines(lesson: Lesson) -> Iterator[str]:
    """The start, and its figures below it."""
    yield f"{lesson.source}: {lesson.model} on {lesson.device}, vLLM {lesson.vllm_version}"
    for name, label in LABELS.items():
        size = getattr(lesson, name)
        told = "not told" if size is None else gib(size)
        if name == "outside_bytes" and size is not None:
            told += f", give or take {gib(lesson.outside_spread_bytes)}"
        yield f"  {label:<24}{told}"
