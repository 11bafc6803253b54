"""What was learned, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..calibration.lesson import Lesson
from ..model.json_file import printable
from ..units import gib

LABELS = {
    "total_bytes": "GPU's total memory",
    "taken_at_start_bytes": "taken before the start",
    "weights_bytes": "weights",
    "activation_bytes": "activation peak",
    "outside_bytes": "outside PyTorch",
    "graph_estimate_bytes": "CUDA graphs, estimated",
}


def to_text(path: str, lessons: Sequence[Lesson], notes: Sequence[str] = ()) -> str:
    """One paragraph a log; no final newline."""
    lines = []
    for each in lessons:
        lines.append(
            printable(f"{each.source}: {each.model} on {each.device}, vLLM {each.vllm_version}")
        )
        for name, label in LABELS.items():
            size = getattr(each, name)
            if size is None:
                lines.append(f"  {label:<24}not told")
                continue
            more = ""
            if name == "outside_bytes":
                more = f", give or take {gib(each.outside_spread_bytes)}"
            lines.append(f"  {label:<24}{gib(size)}{more}")
    lines.append(f"kept in {printable(path)}")
    lines += [f"note: {printable(note)}" for note in notes]
    return "\n".join(lines)


def to_json(path: str, lessons: Sequence[Lesson], notes: Sequence[str] = ()) -> str:
    """The lessons as the file holds them."""
    found = {"file": path, "lessons": [each.to_dict() for each in lessons], "notes": [*notes]}
    return json.dumps(found, indent=2)
