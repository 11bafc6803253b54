"""The plan as Markdown tables, for issues, pull requests and notes."""

from __future__ import annotations

from ..planning.types import Plan
from .printable import printable_plan
from .text import changes, sections, verdict


def to_markdown(plan: Plan) -> str:
    """One table a section; no final newline."""
    plan = printable_plan(plan)
    lines = [f"# KV cache of {cell(plan.model.id)} on {cell(plan.gpu.name)}", ""]
    for title, rows in sections(plan):
        lines += [f"| {title} | | |", "| --- | ---: | --- |"]
        lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
        lines.append("")
    lines.append(f"**{verdict(plan, colour=False)}**")
    remarks = (*changes(plan), *plan.notes)
    if remarks:
        lines += ["", *(f"- {each}" for each in remarks)]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text that cannot end the table cell."""
    return text.strip().replace("|", "\\|")
