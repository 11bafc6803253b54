"""A sweep that is ready to run: its set-ups, what they have in common, who plans them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from ...config.find import FoundConfig
from ...engine_args.value_types import shown
from ...errors import InputError, PlannerError
from ...files.written import shown_path
from ...gpu.catalogue import find_gpu
from ...gpu.gpu import GPU
from ...planning.request import Machine, PlanRequest, check_inputs, plan_request
from ...planning.types import REFUSED
from ...records import dataclass
from .names import canonical
from .pool import Pool, ProcessPool, default_workers, in_order
from .rows import Row, all_columns, csv_line, flat_cell, plain, plan_columns
from .work import OWN_NAMES, Grid, Outcome, Setup, Work, make_grid, row_keys


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Set-ups, what they have in common, and who plans them; arguments as of ``sweep()``."""

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
        """The rows in the grid's order, but those ``done``; as many at a time as are ready."""
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
        wanted = default_workers(self.planner) if self.workers is None else self.workers
        return ProcessPool(self.work, max(1, min(wanted, rows)))

    def check_kept(self, kept: frozenset[str], path: str) -> None:
        """Refuse to continue a file that holds rows of other set-ups."""
        key, strange = row_keys(self.work), set(kept)
        for number in range(len(self.grid) if kept else 0):
            strange.discard(key(self.grid[number]))
            if not strange:
                return
        if strange:
            raise InputError(
                f"{shown_path(path)}: {len(strange):,} of its {len(kept):,} rows are of other "
                "set-ups or settings than this sweep's; --overwrite, or another --output"
            )

    def has_begun(self, torn: str, form: str) -> bool:
        """Whether the torn last line of a file is the beginning of a row of one of the set-ups."""
        heads = (self._head(self.grid[number], form) for number in range(len(self.grid)))
        return any(head.startswith(torn) or torn.startswith(head) for head in heads)

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


MOST_WITH_CHANGES = 1000
"""Set-ups of a sweep whose rows also say what would make them fit: a tenth of a second each."""
MOST_WORKERS = 1024
"""Processes of a sweep: more than the cores of any machine, or of most Ray clusters."""

Model = str | os.PathLike[str] | FoundConfig
Models = Model | Sequence[Model]


def make_sweep(
    models: Models | None,
    *,
    gpus: str | GPU | Sequence[str | GPU] | None,
    vllm_versions: str | Sequence[str] | None,
    grid: Mapping[str, Sequence[Any]],
    setups: Sequence[Setup],
    planner: str,
    machine: Machine,
    workers: int | None,
    ray: str | None,
    engine_args: Mapping[str, Any],
) -> Sweep:
    """The sweep of ``sweep()``'s arguments."""
    check_inputs(machine=machine, planner=planner)
    axes: dict[str, Sequence[Any]] = {}
    own: dict[str, Any] = {"gpu": gpus, "vllm_version": vllm_versions, "model": models}
    for name, given in own.items():
        if given is not None:
            is_one = isinstance(given, str | bytes) or not isinstance(given, Sequence)
            axes[name] = [given] if is_one else given
    axes |= {name: [value] for name, value in engine_args.items()}
    if not isinstance(grid, Mapping):
        raise InputError(f"grid: {shown(grid)} is not a mapping of names to lists of values")
    if isinstance(setups, str | bytes) or not isinstance(setups, Sequence):
        raise InputError(f"setups: {shown(setups)} is not a list of mappings")
    for name, values in grid.items():
        known = canonical(name, f"grid: {name}")
        if known in axes:
            raise InputError(f"grid: {known} is given for all rows already")
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise InputError(f"grid: {name}: {shown(values)} is not a list of values")
        axes[known] = values
    named: dict[str, dict[str, Any]] = {"gpu": {}, "model": {}}
    for name, objects in named.items():
        if name in axes:
            axes[name] = [_label(value, objects) for value in axes[name]]
    groups = [_group(number, setup, named) for number, setup in enumerate(setups)]

    def request(label: str) -> PlanRequest:
        return plan_request(named["model"][label], planner=planner, machine=machine, **engine_args)

    def device(label: str) -> str | GPU:
        known = named["gpu"][label]
        on_cpu = label == "cpu" and planner == "vllm"  # vLLM's own platform, in no catalogue
        return label if on_cpu else known if isinstance(known, GPU) else find_gpu(label)

    return finished(axes, groups, request, device, planner=planner, workers=workers, ray=ray)


def finished(
    axes: Mapping[str, Sequence[Any]],
    setups: Sequence[Setup],
    request: Callable[[str], PlanRequest],
    device: Callable[[str], str | GPU],
    *,
    planner: str,
    workers: int | None,
    ray: str | None,
) -> Sweep:
    """The sweep of these axes, its models and GPUs looked up.

    Values of ``OWN_NAMES`` vary slowest, and are the first columns; each of ``setups`` is a group
    of values that go together. ``request`` gives a model's request without a set-up's own values,
    ``device`` the GPU of a name.
    """
    if workers is not None and (type(workers) is not int or not 1 <= workers <= MOST_WORKERS):
        raise InputError(f"--workers {shown(workers)}: a whole number, 1 to {MOST_WORKERS:,}")
    grid = _grid(axes, setups)
    for version in grid.values("vllm_version"):
        check_inputs(None, version)
    labels = grid.values("gpu")
    gpus = {label: None if label is None else device(label) for label in labels}
    for gpu in gpus.values():
        check_inputs(gpu)
    models: dict[str, PlanRequest | str] = {}
    for label in grid.values("model"):
        try:
            models[label] = request(label)
        except PlannerError as error:
            models[label] = str(error)
            refusal = error
    if all(isinstance(each, str) for each in models.values()):
        raise refusal
    changes = len(grid) <= MOST_WITH_CHANGES
    work = Work(models=models, gpus={None: None, **gpus}, changes=changes)
    return Sweep(grid=grid, work=work, planner=planner, workers=workers, ray=ray)


def _grid(axes: Mapping[str, Sequence[Any]], setups: Sequence[Setup]) -> Grid:
    """The product, with a model and a GPU in every set-up."""
    ordered = {name: axes[name] for name in OWN_NAMES if name in axes}
    if "gpu" not in axes and not any("gpu" in setup for setup in setups):
        ordered = {"gpu": [None], **ordered}
    if not axes.get("model") and not (setups and all(setup.get("model") for setup in setups)):
        raise InputError("no model named: a Hub id, a directory or a config.json")
    return make_grid({**ordered, **axes}, setups)


def _group(number: int, setup: Any, named: Mapping[str, dict[str, Any]]) -> Setup:
    if not isinstance(setup, Mapping) or not setup:
        raise InputError(f"setups[{number}]: {shown(setup)} is not a mapping of names to values")
    group = {canonical(str(name), f"setups[{number}]"): value for name, value in setup.items()}
    for name, objects in named.items():
        if name in group:
            group[name] = _label(group[name], objects)
    return group


def _label(value: Any, objects: dict[str, Any]) -> str | None:
    """What the column says of a model or GPU; objects are kept by it, no two by the same."""
    if value is None:
        return None
    if isinstance(value, str | os.PathLike):
        label = value = os.fsdecode(value)
    elif isinstance(value, GPU):
        label = value.short_name
    elif isinstance(value, FoundConfig):
        label = value.id
    else:
        raise InputError(f"{shown(value)} is neither a model, a GPU, nor the name of one")
    if objects.setdefault(label, value) != value:
        raise InputError(f"two different models or GPUs are called {label[:80]!r}")
    return label
