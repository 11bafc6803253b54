"""The search's own quick way to know what a set-up holds.

``Measure`` remembers every set-up for as long as one search takes; what it measures is what
``plan_of`` says (``tests/test_fit_measure.py`` compares them).
"""

from __future__ import annotations

from typing import Any

from ...engine_args.described import described
from ...errors import PlannerError, UnsupportedError
from ...planning.request import PlanRequest
from ...planning.standalone import StandalonePlan, plan_blocks
from .measured import Measured, alone, measured_by_plan, measured_of


class Measure:
    """Measures set-ups, each once.

    Args:
        fall_back: Ask vLLM's own code where the rules restated here do not know the engine, as
            ``planner="auto"`` does; a search does not, for it would ask hundreds of times.
    """

    def __init__(self, *, fall_back: bool = True) -> None:
        self._fall_back = fall_back
        self._known: dict[Any, tuple[PlanRequest, Measured | PlannerError]] = {}

    def __call__(self, request: PlanRequest) -> Measured:
        """What the request's set-up holds.

        Raises:
            PlannerError: It cannot be planned; one line says why.
        """
        key = _key(request)
        if key not in self._known:
            answer: Measured | PlannerError
            try:
                answer = self._measured(request)
            except PlannerError as refusal:
                answer = refusal
            # the request too, so that the ids of its parts cannot come to mean others
            self._known[key] = request, answer
        answer = self._known[key][1]
        if isinstance(answer, PlannerError):
            raise answer
        return answer

    def _measured(self, request: PlanRequest) -> Measured:
        if request.planner == "vllm":
            return measured_by_plan(request)
        try:
            return measured_of(StandalonePlan(request))
        except UnsupportedError:
            if request.planner == "standalone" or not self._fall_back:
                raise
            return measured_by_plan(request)

    def weights_bytes(self, request: PlanRequest) -> int:
        """Weights of the fullest GPU, whether they fit or not.

        Raises:
            PlannerError: They are not known.
        """
        return max(StandalonePlan(request).weights.loaded_bytes)

    def least_request_bytes(self, request: PlanRequest) -> int:
        """KV memory that one request takes at least, over one rank of every stage; 0: none.

        Whatever the batch: with nothing in flight. Weights play no part.

        Raises:
            PlannerError: The set-up cannot be planned.
        """
        made = StandalonePlan(request)
        stages = made.setup.cache.stages
        if not any(stages):
            return 0
        blocks = plan_blocks(made.setup, [0] * len(stages), alone(made.limits))
        return sum(worker.needed_bytes for worker in blocks.workers)


def _key(request: PlanRequest) -> Any:
    """What a measurement depends on; replicas of a model without experts are like one alone."""
    args = vars(request.args)
    return (
        id(request.found),
        request.gpu if isinstance(request.gpu, str) else id(request.gpu),
        request.planner,
        request.vllm_version,
        id(request.environment),
        id(request.machine),
        _replicas(request),
        *(repr(value) for name, value in args.items() if name != "data_parallel_size"),
    )


def _replicas(request: PlanRequest) -> int:
    """Data-parallel engines that know of each other: they share the experts, if there are any."""
    is_moe = described(request.found, request.args).is_moe
    return request.args.data_parallel_size if is_moe else 1
