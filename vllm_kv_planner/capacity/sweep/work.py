"""What a sweep plans: a grid of set-ups, never held in memory, and each of them planned."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from ...engine_args.engine_args import EngineArgs
from ...errors import InputError, PlannerError, one_line
from ...planner import plan_of
from ...records import dataclass, field, replace
from ...vllm_adapter import end_shared_planner
from .rows import figures, plain

if TYPE_CHECKING:
    from ...gpu.gpu import GPU
    from ...planning.request import PlanRequest


Setup = Mapping[str, Any]
"""One row's names and values: ``model``, ``gpu``, ``vllm_version`` and vLLM's own flags."""

MOST_ROWS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Set-ups by number; the last axis changes fastest.

    Attributes:
        axes: Each axis is a list of groups of values. ``max_model_len=8K,32K`` has groups of one
            name; explicit set-ups are one axis whose groups hold several.
    """

    axes: tuple[tuple[Setup, ...], ...]

    @property
    def size(self) -> int:
        """How many there are; ``len()`` has a limit."""
        return prod(map(len, self.axes))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> Setup:
        chosen = []
        for axis in reversed(self.axes):
            number, at = divmod(number, len(axis))
            chosen.append(axis[at])
        return {name: value for group in reversed(chosen) for name, value in group.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that some set-up gives a value, in order of the axes."""
        return tuple(dict.fromkeys(name for axis in self.axes for each in axis for name in each))

    def values(self, name: str) -> list[Any]:
        """The different values of one name; of a list's kind where no set-up gives it one."""
        return distinct([each[name] for axis in self.axes for each in axis if name in each])


def make_grid(axes: Mapping[str, Sequence[Any]], setups: Sequence[Setup] = ()) -> Grid:
    """The product of the axes, slowest first, and of them all with each of ``setups``."""
    made = []
    for name, values in axes.items():
        if not values:
            raise InputError(f"{name}: an axis without a value")
        made.append(tuple({name: value} for value in distinct(values)))
    for number, setup in enumerate(setups):
        both = next((name for name in setup if name in axes), None)
        if both is not None:
            raise InputError(f"setups[{number}] names {both}, which is given for all rows already")
    if setups:
        made.append(tuple(distinct(setups)))
    grid = Grid(axes=tuple(made))
    if grid.size > MOST_ROWS:
        raise InputError(f"{grid.size:,} set-ups; a sweep has at most {MOST_ROWS:,}")
    return grid


def distinct(values: Sequence[Any]) -> list[Any]:
    """The values without repetitions, in order; ``1`` and ``True`` and ``1.0`` differ."""
    found: dict[str, Any] = {}
    for value in values:
        plain = sorted(value.items()) if isinstance(value, Mapping) else value
        found.setdefault(repr(plain), value)
    return list(found.values())


Outcome = tuple[Any, ...] | str
"""``fits`` and the plan's columns; or why there is no plan, in one line."""

Chunk = Sequence[Setup]
Answer = tuple[float, list[Outcome]]
"""Seconds a chunk took, and what came of each of its set-ups."""

OWN_NAMES = ("gpu", "vllm_version", "model")
"""Names of a set-up that are no flags of the engine; slowest axis first."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all rows have in common.

    Attributes:
        models: The request of each model, without the set-up's own values; or why its config
            cannot be had.
        gpus: What each name of a GPU means; None the default.
        changes: Whether a row that does not fit says what would make it fit.
    """

    models: Mapping[str, PlanRequest | str] = field(hash=False)
    gpus: Mapping[str | None, str | GPU | None] = field(hash=False)
    changes: bool = False

    def request(self, setup: Setup) -> PlanRequest:
        """The engine of a set-up, or the PlannerError that says why it cannot be."""
        base = self.models[setup["model"]]
        if isinstance(base, str):
            raise PlannerError(base)
        flags = {  # None leaves a flag out: vLLM's default
            name: getattr(_DEFAULTS, name) if value is None else value
            for name, value in setup.items()
            if name not in OWN_NAMES
        }
        request = replace(base, gpu=self.gpus[setup.get("gpu")])
        version = setup.get("vllm_version")
        if version is not None:
            from ...engine_args.flag_table import check_version

            check_version((name for name in flags if setup[name] is not None), version)
            request = replace(request, vllm_version=version)
        return request.with_args(**flags) if flags else request


_DEFAULTS = EngineArgs()


def outcome(setup: Setup, work: Work) -> Outcome:
    """The row's figures; whatever goes wrong is the row's error and nobody else's."""
    try:
        request = work.request(setup)
        plan = plan_of(request)
        if work.changes:
            from ..fit.suggestions import with_changes

            plan = with_changes(request, plan)
    except PlannerError as error:
        return str(error)
    except Exception as error:
        return one_line(f"internal error, please report it: {type(error).__name__}: {error}")
    return tuple(map(plain, figures()(plan)))


class Planning:
    """A worker's loop body: plans chunks, with one vLLM at most in memory."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._gpu: str | None = None

    def run(self, chunk: Chunk) -> Answer:
        """Plan every set-up of the chunk."""
        start = time.monotonic()
        outcomes = []
        for setup in chunk:
            if setup.get("gpu") != self._gpu:
                self.close()  # the vLLM of the GPU before: each holds some 2 GB
            self._gpu = setup.get("gpu")
            outcomes.append(outcome(setup, self._work))
        return time.monotonic() - start, outcomes

    def close(self) -> None:
        """End the vLLM that answered here, if one did."""
        end_shared_planner()


def row_keys(work: Work) -> Callable[[Setup], str]:
    """The key of each set-up: 16 hexadecimal digits, the same in every run.

    It depends on all that is said of the row: the set-up, GPU sizes, the planner, vLLM's
    environment, free memory and calibration. It does not depend on what the model's config says.
    """
    from hashlib import blake2b

    common = blake2b(_said(work).encode(), digest_size=8)
    gpus = {name: repr(gpu) for name, gpu in work.gpus.items()}

    def key(setup: Setup) -> str:
        made = common.copy()
        values = {name: plain(value) for name, value in setup.items()}
        values["gpu"] = [setup.get("gpu"), gpus[setup.get("gpu")]]
        made.update(json.dumps(values, sort_keys=True, default=repr).encode())
        return made.hexdigest()

    return key


def _said(work: Work) -> str:
    """What holds for every row; of any model, as they differ in their configs alone."""
    base = next(each for each in work.models.values() if not isinstance(each, str))
    args = replace(base.args, model=EngineArgs.model)
    return repr((base.planner, base.vllm_version, base.environment, base.machine, args))
