"""``sweep()``: a grid of set-ups planned on all cores, as rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...files.json_file import shown
from ...files.written import check_apart, path_of
from ...planning.request import UNKNOWN_MACHINE, Machine
from ...records import dataclass
from ...report import Answer
from ...report.document import Column, Table, table_of
from .job import Models, Sweep, make_sweep
from .output import Output, open_output
from .rows import ERROR, FITS, Row, Sink, flat_cell
from .work import Setup

if TYPE_CHECKING:
    from ...gpu.gpu import GPU


@dataclass(frozen=True, kw_only=True)
class SweepResult(Answer):
    """What a sweep did.

    Attributes:
        columns: Names of a row's values.
        rows: The rows, in the grid's order; empty where they went into a file.
        output: The file that holds them.
        total: Rows of the sweep.
        kept: Rows that were in the file before.
        fit: Of the rows planned now, engines that fit.
        errors: Of the rows planned now, those without a plan.
        first_error: Why the first of these has none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    output: str | None
    total: int
    kept: int
    fit: int
    errors: int
    first_error: str | None

    def table(self) -> Table:
        """The rows; where they went into a file, their counts."""
        if self.output is None:
            flat = tuple(tuple(flat_cell(value) for value in row) for row in self.rows)
            return Table(columns=tuple(map(Column, self.columns)), rows=flat)
        counts = (Column(name, form="count") for name in ("total", "kept", "fit", "errors"))
        return table_of([self], (Column("output"), *counts, Column("first_error")))


class Counts:
    """Counts rows as they pass; names as of ``SweepResult``."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._fits = columns.index(FITS)
        self._error = columns.index(ERROR)
        self.rows = self.fit = self.errors = 0
        self.first_error: str | None = None

    def add(self, rows: Sequence[Row]) -> None:
        """Count these."""
        self.rows += len(rows)
        for row in rows:
            self.fit += row[self._fits] is True
            if row[self._error] is not None:
                self.errors += 1
                self.first_error = self.first_error or row[self._error]


Progress = Callable[[int], object]
"""Called with the rows that are done."""


def run_sweep(
    sweep: Sweep,
    *,
    output: Output | None = None,
    sink: Sink | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Plan all set-ups, into a file, into a sink of the caller's, or into the result."""
    if progress is not None and not callable(progress):
        raise InputError(f"progress: {shown(progress)} cannot be called")
    kept: frozenset[str] = frozenset()
    if output is not None:
        kept, sink = open_output(output, sweep)
    counts = Counts(sweep.columns)
    rows: list[tuple[Any, ...]] = []
    try:
        if len(kept) < len(sweep.grid):
            with closing(sweep.rows(kept)) as batches:
                for batch in batches:
                    if sink is None:
                        rows += map(tuple, batch)
                    else:
                        sink.write(batch)
                    counts.add(batch)
                    if progress is not None:
                        progress(len(kept) + counts.rows)
        if sink is not None:
            sink.finish()
    finally:
        if sink is not None:
            sink.close()
    return SweepResult(
        columns=sweep.columns,
        rows=tuple(rows),
        output=None if output is None else output.path,
        total=len(sweep.grid),
        kept=len(kept),
        fit=counts.fit,
        errors=counts.errors,
        first_error=counts.first_error,
    )


def sweep(
    models: Models | None = None,
    *,
    gpus: str | GPU | Sequence[str | GPU] | None = None,
    vllm_versions: str | Sequence[str] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    setups: Sequence[Setup] = (),
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    retry_errors: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    planner: str = "auto",
    machine: Machine = UNKNOWN_MACHINE,
    progress: Progress | None = None,
    **engine_args: Any,
) -> SweepResult:
    """Plan every combination of models, GPUs, versions and flags.

    Args:
        models: What ``plan()`` takes for a model, or a sequence of such; None where every one of
            ``setups`` names its own.
        gpus: What ``plan()`` takes for a GPU, or a sequence of such.
        vllm_versions: vLLM's versions to plan for.
        grid: Values to try of each of vLLM's flags, by vLLM's names; None leaves a flag out.
        setups: Groups of flags that go together, each tried with all of the above.
        output: File for the rows: ``.csv``, ``.jsonl`` or ``.parquet``; None: into the result.
        resume: Continue the file; rows that are in it are not planned again.
        overwrite: Begin the file anew.
        retry_errors: With ``resume``, plan the rows again that could not be planned.
        workers: Processes; None: one a core (fewer for ``planner="vllm"`` where memory is short).
        ray: Address of a Ray cluster whose CPUs plan instead: ``auto``, ``HOST:PORT``.
        planner: ``auto``, ``standalone`` or ``vllm``.
        machine: Free memory of a shared GPU, and the calibration of earlier starts.
        progress: Called with the number of rows that are done.
        **engine_args: Flags of all rows, by vLLM's names.

    Raises:
        PlannerError: The sweep cannot begin; one line says why. What goes wrong with one set-up
            is its row's ``error``.
    """
    output = None if output is None else path_of(output, "output")
    check_apart({"output": output}, [models, grid, setups, engine_args])
    made = make_sweep(
        models,
        gpus=gpus,
        vllm_versions=vllm_versions,
        grid=grid or {},
        setups=setups,
        planner=planner,
        machine=machine,
        workers=workers,
        ray=ray,
        engine_args=engine_args,
    )
    file = None
    if output is not None:
        file = Output(path=output, resume=resume, overwrite=overwrite, retry_errors=retry_errors)
    return run_sweep(made, output=file, progress=progress)
