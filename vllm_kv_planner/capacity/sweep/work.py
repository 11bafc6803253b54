"""One set-up planned: everything a worker needs to know, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...engine_args.engine_args import EngineArgs
from ...errors import PlannerError, one_line
from ...planner import plan_of
from ...records import dataclass, field, replace
from ...vllm_adapter.ended import end_shared_planner
from .columns import figures, plain
from .grid import Setup

if TYPE_CHECKING:
    from ...gpu.gpu import GPU
    from ...planning.request import PlanRequest

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
        """The engine of a set-up.

        Raises:
            PlannerError: It cannot be; one line says why.
        """
        base = self.models[setup["model"]]
        if isinstance(base, str):
            raise PlannerError(base)
        flags = {name: _given(name, setup[name]) for name in setup if name not in OWN_NAMES}
        request = replace(base, gpu=self.gpus[setup.get("gpu")])
        version = setup.get("vllm_version")
        if version is not None:
            from ...engine_args.older_flags import check_version

            check_version((name for name in flags if setup[name] is not None), version)
            request = replace(request, vllm_version=version)
        return request.with_args(**flags) if flags else request


def _given(name: str, value: Any) -> Any:
    """The value; vLLM's default where the set-up leaves the flag out (None)."""
    return getattr(_DEFAULTS, name) if value is None else value


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
            self._only_one_vllm(setup.get("gpu"))
            outcomes.append(outcome(setup, self._work))
        return time.monotonic() - start, outcomes

    def _only_one_vllm(self, gpu: str | None) -> None:
        """End the vLLM of the GPU before: each holds some 2 GB."""
        if gpu != self._gpu:
            self.close()
        self._gpu = gpu

    def close(self) -> None:
        """End the vLLM that answered here, if one did."""
        end_shared_planner()
