"""A sweep that is ready to run: its set-ups, what they have in common, who plans them."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence

from ...errors import InputError
from ...files.written import shown_path
from ...planning.types import REFUSED
from ...records import dataclass
from .columns import all_columns, plain, plan_columns
from .grid import Grid, Setup
from .keys import row_keys
from .schedule import Pool, in_order
from .sinks import Row, csv_line, flat_cell
from .work import Outcome, Work


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
        key, names = row_keys(self.work), self.names
        numbered = (self.grid[number] for number in range(len(self.grid)))
        todo = (setup for setup in numbered if not done or key(setup) not in done)
        pool = self._pool(len(self.grid) - len(done))
        try:
            for ready in in_order(pool, todo):
                yield [row_of(names, setup, outcome, key(setup)) for setup, outcome in ready]
        finally:
            pool.close()

    def _pool(self, rows: int) -> Pool:
        if self.ray is not None:
            from .ray_pool import RayPool

            return RayPool(self.work, self.ray, self.workers, planner=self.planner)
        from .process_pool import ProcessPool, default_workers

        wanted = default_workers(self.planner) if self.workers is None else self.workers
        return ProcessPool(self.work, max(1, min(wanted, rows)))

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
                f"{shown_path(path)}: {len(strange):,} of its {len(kept):,} rows are of other "
                "set-ups or settings than this sweep's; --overwrite, or another --output"
            )

    def has_begun(self, torn: str, form: str) -> bool:
        """Whether ``torn`` is the beginning of a row of one of the set-ups.

        Args:
            torn: What a file holds behind its last line feed.
            form: The format of the file.
        """
        return any(
            head.startswith(torn) or torn.startswith(head)
            for number in range(len(self.grid))
            for head in (self._head(self.grid[number], form),)
        )

    def _head(self, setup: Setup, form: str) -> str:
        """A row's beginning as it stands in a file: all that says which set-up it is."""
        cells = cells_of(self.names, setup)
        if form == "csv":
            return csv_line([*cells, ""])[:-1]
        if form == "parquet":
            cells = [flat_cell(cell) for cell in cells]
        return json.dumps(dict(zip(self.names, cells, strict=True)), default=str)[:-1] + ", "


def row_of(names: Sequence[str], setup: Setup, outcome: Outcome, key: str) -> Row:
    """A row's values in the order of the columns."""
    head = cells_of(names, setup)
    if isinstance(outcome, str):
        said = {"verdict": REFUSED, "limits": [outcome], "changes": []}
        return [*head, None, outcome, *(said.get(each.name) for each in plan_columns()), key]
    fits, *figures = outcome
    return [*head, fits, None, *figures, key]


def cells_of(names: Sequence[str], setup: Setup) -> Row:
    """The cells that say which set-up a row is; a password in a model's address is none of it."""
    from ...masking import without_secrets

    shown = {**setup, "model": without_secrets(str(setup.get("model")))}
    return [plain(shown.get(name)) for name in names]
