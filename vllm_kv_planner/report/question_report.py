"""Answers to ``fit --question`` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import printable
from .fit_report import line
from .table import Column, Table
from .table import to_markdown as table_markdown
from .table import to_text as table_text
from .terminal import paint

if TYPE_CHECKING:
    from ..capacity.fit.question_results import DeviceAnswers, Suggestions

ASKED = {
    "max-model-len": "largest max_model_len",
    "min-utilization": "smallest gpu_memory_utilization",
    "min-gpus": "fewest GPUs",
}


def answers_table(result: DeviceAnswers) -> Table:
    """One row a device."""
    names = ("model", "gpu", "num_gpus", "value", "sure_requests", "message", "command")
    text = ("model", "gpu", "message", "command")
    columns = tuple(Column(name=n, form="text" if n in text else "count") for n in names)
    rows = tuple(tuple(getattr(each, name) for name in names) for each in result.answers)
    return Table(columns=columns, rows=rows)


def short_answers(result: DeviceAnswers) -> Table:
    """The columns that fit a terminal."""
    columns: tuple[Column, ...] = (
        Column(name="gpu", title="GPU"),
        Column(name="num_gpus", title="GPUs", form="count"),
        Column(name="value", title=ASKED[result.question], form="count"),
        Column(name="sure_requests", title="at once", form="count"),
        Column(name="message", title=""),
    )
    if result.question == "min-gpus":
        columns = (columns[0], *columns[2:])
    rows = tuple(tuple(getattr(each, c.name) for c in columns) for each in result.answers)
    return Table(columns=columns, rows=rows)


def answers_text(result: DeviceAnswers, *, colour: bool = False) -> str:
    """Question, table, commands; no final newline."""
    parts = [
        paint(asked(result), "bold", colour=colour),
        table_text(short_answers(result), colour=colour),
    ]
    return "\n\n".join(
        [*parts, *_commands(result), *(f"note: {printable(note)}" for note in result.notes)]
    )


def answers_markdown(result: DeviceAnswers) -> str:
    """The same as Markdown."""
    parts = [f"**{asked(result)}**", table_markdown(short_answers(result))]
    parts += [f"```sh\n{each}\n```" for each in _commands(result)]
    return "\n\n".join([*parts, *(f"note: {printable(note)}" for note in result.notes)])


def asked(result: DeviceAnswers) -> str:
    """The question on one line."""
    plural = "" if result.concurrency == 1 else "s"
    context = ""
    if result.max_model_len is not None:
        context = f" of {result.max_model_len:,} tokens"
    models = " or ".join(dict.fromkeys(each.model for each in result.answers if each.model))
    requests = f"{result.concurrency:,} request{plural}{context}"
    return f"{printable(models)}: {ASKED[result.question]} for {requests} at once"


def _commands(result: DeviceAnswers) -> list[str]:
    gpus: dict[str, list[str]] = {}
    for each in result.answers:
        if each.command:
            gpus.setdefault(each.command, []).append(each.gpu)
    if not gpus:
        return []
    return [
        "\n".join(f"# {', '.join(mine)}\n{printable(command)}" for command, mine in gpus.items())
    ]


def suggestions_table(result: Suggestions) -> Table:
    """One row a change."""
    forms = {
        "flag": "text",
        "text": "text",
        "fits": "text",
        "available_kv_cache_bytes": "gib",
        "available_delta_bytes": "gib",
        "concurrency": "times",
        "concurrency_ratio": "times",
        "max_model_len_that_fits": "count",
        "costs": "text",
    }
    columns = tuple(Column(name=name, form=form) for name, form in forms.items())
    rows = tuple(tuple(getattr(each, name) for name in forms) for each in result.suggestions)
    return Table(columns=columns, rows=rows)


def suggestions_text(result: Suggestions, *, colour: bool = False) -> str:
    """What there is, and what each change buys; no final newline."""
    return "\n".join([paint(state(result), "bold", colour=colour), *_suggestion_lines(result)])


def suggestions_markdown(result: Suggestions) -> str:
    """The same as Markdown."""
    items = [f"- {each.strip()}" for each in _suggestion_lines(result)]
    return "\n".join([f"**{state(result)}**", "", *items])


def state(result: Suggestions) -> str:
    """What the engine does as it is."""
    does = "fits" if result.fits else f"does not fit: {result.why_not}"
    return (
        f"{printable(result.model)} on {result.num_gpus} x {result.gpu}, "
        f"{result.concurrency:,} x {result.max_model_len:,} tokens: {does}"
    )


def _suggestion_lines(result: Suggestions) -> list[str]:
    lines = [line(each) for each in result.suggestions]
    if not lines:
        lines = ["  no single flag changes that"]
    return [*lines, *(f"note: {printable(note)}" for note in result.notes)]
