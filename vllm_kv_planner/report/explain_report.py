"""Predicted beside actual, for people and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from ..explain.compare import Explanation
from ..explain.part import Part
from ..masking import HIDDEN, is_secret, masked_text
from ..model.json_file import printable
from ..units import gib
from .terminal import paint

SCHEMA_VERSION = 1


def to_text(explanations: Sequence[Explanation], *, colour: bool = False) -> str:
    """One table a start; no final newline."""
    return "\n\n".join(one_text(each, colour=colour) for each in explanations)


def one_text(explanation: Explanation, *, colour: bool) -> str:
    """The engine, its parts in columns with the reasons behind them, and the notes."""
    log, prediction = explanation.log, explanation.prediction
    lines = [paint(f"Start of {printable(log.where)}", "bold", colour=colour)]
    lines += [f"  {label:<8} {value}" for label, value in engine_lines(explanation)]
    if prediction is not None and prediction.budget is not None:
        settings = prediction.setup.resolved.batch
        lines.append(
            f"  {'planned':<8} max_num_seqs {settings.max_num_seqs:,}, max_num_batched_tokens "
            f"{settings.max_num_batched_tokens:,}, "
            f"gpu_memory_utilization {prediction.setup.args.gpu_memory_utilization}"
        )
    lines.append("")
    table = [("", "predicted", "actual", "difference", "")]
    table += [
        (
            part.name,
            shown(part, part.predicted),
            shown(part, part.actual),
            shown(part, part.difference, signed=True),
            part.reason,
        )
        for part in explanation.parts
    ]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for number, row in enumerate(table):
        cells = [f"{row[0]:<{widths[0]}}"]
        cells += [f"{row[column]:>{widths[column]}}" for column in range(1, 4)]
        text = "  ".join(("", *cells)).rstrip()
        reason = printable(row[4])
        lines.append(paint(text, "bold", colour=colour) if number == 0 else f"{text}  {reason}")
    lines += ["", *(f"note: {printable(note)}" for note in explanation.notes)]
    return "\n".join(lines).rstrip()


def engine_lines(explanation: Explanation) -> list[tuple[str, str]]:
    """What ran, as the log names it; flags as given."""
    log, prediction = explanation.log, explanation.prediction
    gpu = log.gpu if prediction is None else prediction.setup.gpu.name
    if log.on_cpu:
        gpu = "none: vLLM's CPU build"
    version = log.version if prediction is None else prediction.version
    flags = ", ".join(
        f"{name}={value!r}" for name, value in log.arguments.items() if name != "model"
    )
    rows = (
        ("model", log.model if prediction is None else prediction.setup.args.model),
        ("vLLM", version),
        ("GPU", gpu),
        ("flags", flags[:300]),
    )
    return [(label, printable(masked_text(value or "not stated"))) for label, value in rows]


def shown(part: Part, value: float | None, *, signed: bool = False) -> str:
    """A figure in its unit; ``-`` where there is none."""
    if value is None:
        return "-"
    plus = "+" if signed and value > 0 else ""
    if part.unit == "bytes":
        return f"{plus}{gib(int(value)).partition(' (')[0]}"
    return f"{plus}{value:,.2f}x" if part.unit == "times" else f"{plus}{value:,.0f}"


def to_json(explanations: Sequence[Explanation]) -> str:
    """One object, the starts in a list; sizes in bytes."""
    starts = [start_object(each) for each in explanations]
    found = {"schema_version": SCHEMA_VERSION, "starts": starts}
    return json.dumps(found, indent=2, allow_nan=False)


def start_object(explanation: Explanation) -> dict[str, Any]:
    """One start as plain values."""
    log, prediction = explanation.log, explanation.prediction
    return {
        "log": log.where,
        "model": log.model if prediction is None else prediction.setup.args.model,
        "vllm_version": log.version if prediction is None else prediction.version,
        "gpu": log.gpu if prediction is None else prediction.setup.gpu.name,
        "flags": {name: plain(value) for name, value in log.arguments.items()},
        "started": log.started,
        "refusal": log.refusal,
        "parts": [part_object(part) for part in explanation.parts],
        "notes": list(explanation.notes),
    }


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
