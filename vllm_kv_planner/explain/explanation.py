"""Starts explained: predicted beside actual, for people and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..logs.start_log import StartLog
from ..masking import HIDDEN, is_secret, masked_text
from ..records import as_plain, dataclass
from ..report import SCHEMA_VERSION, Answer
from ..report.document import Column, Document, Lines, Section, lines_of, noted, table_of
from ..units import gib
from .measured import Part
from .predict import Prediction


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A start, explained.

    Attributes:
        log: What the log says.
        prediction: What would have been said; None where nothing.
        parts: Memory first, then blocks.
        notes: Sentences for the reader.
    """

    log: StartLog
    prediction: Prediction | None
    parts: tuple[Part, ...]
    notes: tuple[str, ...]

    @property
    def model(self) -> str | None:
        """As predicted for, else as the log names it; so are the other two."""
        return self.log.model if self.prediction is None else self.prediction.setup.args.model

    @property
    def version(self) -> str | None:
        """Of vLLM."""
        return self.log.version if self.prediction is None else self.prediction.version

    @property
    def gpu(self) -> str | None:
        """The device of every rank."""
        return self.log.gpu if self.prediction is None else self.prediction.setup.gpu.name

    def document(self) -> Document:
        """The engine, its parts in columns with the reasons behind them, and the notes."""
        return Document(
            sections=(
                Section(f"Start of {self.log.where}", (Lines(tuple(self._engine())),)),
                Section(body=(table_of(self.parts, COLUMNS, indent=2),)),
                lines_of(noted(self.notes)),
            )
        )

    def _engine(self) -> Iterator[str]:
        """What ran, as the log names it; flags as given."""
        gpu = "none: vLLM's CPU build" if self.log.on_cpu else self.gpu
        given = self.log.arguments.items()
        flags = ", ".join(f"{name}={value!r}" for name, value in given if name != "model")
        rows = {"model": self.model, "vLLM": self.version, "GPU": gpu, "flags": flags[:300]}
        for label, value in rows.items():
            yield f"  {label:<8} {masked_text(value or 'not stated')}"
        if self.prediction is not None and self.prediction.budget is not None:
            setup = self.prediction.setup
            yield (
                f"  {'planned':<8} max_num_seqs {setup.resolved.batch.max_num_seqs:,}, "
                f"max_num_batched_tokens {setup.resolved.batch.max_num_batched_tokens:,}, "
                f"gpu_memory_utilization {setup.args.gpu_memory_utilization}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The start as plain values; sizes in bytes."""
        return {
            "log": self.log.where,
            "model": self.model,
            "vllm_version": self.version,
            "gpu": self.gpu,
            "flags": {name: plain(value) for name, value in self.log.arguments.items()},
            "started": self.log.started,
            "refusal": self.log.refusal,
            "ended": None if self.log.ended is None else as_plain(self.log.ended),
            "parts": [part_object(part) for part in self.parts],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Explanations(Answer):
    """Several starts, in the order of their logs."""

    starts: tuple[Explanation, ...]

    def documents(self) -> Sequence[Document]:
        """One a start."""
        return [each.document() for each in self.starts]

    def to_dict(self) -> dict[str, Any]:
        """The starts in a list."""
        starts = [each.to_dict() for each in self.starts]
        return {"schema_version": SCHEMA_VERSION, "starts": starts}


def shown(part: Part, value: float | None, *, signed: bool = False) -> str:
    """A figure in its unit; ``-`` where there is none."""
    if value is None:
        return "-"
    plus = "+" if signed and value > 0 else ""
    if part.unit == "bytes":
        return f"{plus}{gib(int(value)).partition(' (')[0]}"
    return f"{plus}{value:,.2f}x" if part.unit == "times" else f"{plus}{value:,.0f}"


COLUMNS = (
    Column("name", " "),
    Column("predicted", form="count", value=lambda part: shown(part, part.predicted)),
    Column("actual", form="count", value=lambda part: shown(part, part.actual)),
    Column(
        "difference", form="count", value=lambda part: shown(part, part.difference, signed=True)
    ),
    Column("reason", " "),
)


def part_object(part: Part) -> dict[str, Any]:
    """One part as plain values; whole numbers where the unit is whole."""

    def number(value: float | None) -> float | int | None:
        return value if value is None or part.unit == "times" else int(value)

    return {
        "name": part.name,
        "unit": part.unit,
        "predicted": number(part.predicted),
        "actual": number(part.actual),
        "difference": number(part.difference),
        "band": number(part.band),
        "agrees": part.agrees if part.difference is not None else None,
        "reason": part.reason,
    }


def plain(value: Any) -> Any:
    """A flag's value as JSON has it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {
            str(key): HIDDEN if is_secret(str(key)) else plain(item) for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return repr(value)
