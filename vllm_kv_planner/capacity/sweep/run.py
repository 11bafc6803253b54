"""``sweep()``: a grid of set-ups planned on all cores, as rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...machine import UNKNOWN_MACHINE, Machine
from ...records import dataclass
from ..answer import Answer
from .columns import ERROR, FITS, all_columns, plain, plan_columns
from .grid import Grid, Setup
from .keys import row_keys
from .output import Output, open_sink, prepare
from .schedule import Pool, in_order
from .sinks import Row, Sink
from .work import Outcome, Work

if TYPE_CHECKING:
    from ...gpu.gpu import GPU
    from ...report.table import Table
    from .inputs import Models

Progress = Callable[[int], object]
"""Called with the rows that are done."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Set-ups, what they have in common, and who plans them.

    Attributes:
        grid: The set-ups.
        work: What they have in common.
        planner: ``auto``, ``standalone`` or ``vllm``.
        workers: Processes, or actors on a Ray cluster; None: one a core.
        ray: Address of the Ray cluster; None: this machine without Ray.
    """

    grid: Grid
    work: Work
    planner: str = "auto"
    workers: int | None = None
    ray: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that say which set-up a row is."""
        return self.grid.names

    @property
    def columns(self) -> tuple[str, ...]:
        """The header of the rows."""
        return all_columns(self.names)

    def rows(self, done: frozenset[str] = frozenset()) -> Generator[list[Row], None, None]:
        """The rows in the grid's order, as many at a time as are ready.

        Args:
            done: Keys of rows that shall not be planned again.

        Raises:
            PlannerError: No worker can be started.
        """
        key = row_keys(self.work)
        numbered = (self.grid[number] for number in range(len(self.grid)))
        todo = (setup for setup in numbered if not done or key(setup) not in done)
        pool = self._pool(len(self.grid) - len(done))
        try:
            for ready in in_order(pool, todo):
                yield [self._row(setup, outcome, key(setup)) for setup, outcome in ready]
        finally:
            pool.close()

    def _pool(self, rows: int) -> Pool:
        if self.ray is not None:
            from .ray_pool import RayPool

            return RayPool(self.work, self.ray, self.workers, planner=self.planner)
        from .process_pool import ProcessPool, default_workers

        wanted = default_workers(self.planner) if self.workers is None else self.workers
        return ProcessPool(self.work, max(1, min(wanted, rows)))

    def _row(self, setup: Setup, outcome: Outcome, key: str) -> Row:
        head = [plain(setup.get(name)) for name in self.names]
        if isinstance(outcome, str):
            return [*head, None, outcome, *(None for _ in plan_columns()), key]
        fits, *figures = outcome
        return [*head, fits, None, *figures, key]

    def check_kept(self, kept: frozenset[str], path: str) -> None:
        """Refuse to continue a file that holds rows of other set-ups.

        Raises:
            InputError: It does.
        """
        key = row_keys(self.work)
        strange = set(kept)
        for number in range(len(self.grid)):
            if not strange:
                return
            strange.discard(key(self.grid[number]))
        if strange:
            raise InputError(
                f"{path}: {len(strange):,} of its {len(kept):,} rows are of other set-ups or "
                "settings than this sweep's; --overwrite, or another --output"
            )


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
        from ...report.table import Column, Table
        from .sinks import flat_cell

        if self.output is None:
            flat = tuple(tuple(flat_cell(value) for value in row) for row in self.rows)
            return Table(columns=tuple(Column(name=name) for name in self.columns), rows=flat)
        counts = ("output", "total", "kept", "fit", "errors", "first_error")
        return Table(
            columns=tuple(
                Column(name=name, form="count" if name in counts[1:5] else "text")
                for name in counts
            ),
            rows=(tuple(getattr(self, name) for name in counts),),
        )


class _Counts:
    """Counts rows as they pass."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._fits = columns.index(FITS)
        self._error = columns.index(ERROR)
        self.rows = self.fit = self.errors = 0
        self.first_error: str | None = None

    def add(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)
        for row in rows:
            self.fit += row[self._fits] is True
            if row[self._error] is not None:
                self.errors += 1
                self.first_error = self.first_error or row[self._error]


def run_sweep(
    sweep: Sweep,
    *,
    output: Output | None = None,
    sink: Sink | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Plan all set-ups, into a file, into a sink of the caller's, or into the result.

    Raises:
        PlannerError: The file cannot be used, or no worker can be started.
    """
    kept: frozenset[str] = frozenset()
    if output is not None:
        kept = prepare(output, sweep.columns)
        sweep.check_kept(kept, output.path)
        sink = open_sink(output.path, sweep.names, sweep.columns)
    counts = _Counts(sweep.columns)
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
    output: str | None = None,
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
        machine: Free memory of a shared GPU, and lessons of earlier starts.
        progress: Called with the number of rows that are done.
        **engine_args: Flags of all rows, by vLLM's names.

    Raises:
        PlannerError: The sweep cannot begin; one line says why. What goes wrong with one set-up
            is its row's ``error``.
    """
    from .inputs import make_sweep

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
