"""Who answers a request: the rules restated here, or vLLM's own code."""

from __future__ import annotations

from .errors import UnsupportedError, WeightsUnknownError
from .planning.request import PlanRequest
from .planning.standalone import StandalonePlan
from .planning.types import Plan
from .records import replace


def plan_of(request: PlanRequest) -> Plan:
    """The plan, by whom the request names; of ``auto`` by vLLM where the rules here end.

    Raises:
        PlannerError: The engine cannot be planned; one line says why.
    """
    request.check()
    request = with_notes(request)
    if request.planner == "vllm":
        return plan_by_vllm(request)
    only = request.planner == "standalone"
    try:
        return StandalonePlan(request, sizes_at_least=only).plan
    except UnsupportedError as refusal:
        if only:
            raise
        from .vllm_adapter.shared import may_answer, with_reason

        weights_only = isinstance(refusal, WeightsUnknownError)
        if not may_answer(request, refusal):
            if weights_only:
                return StandalonePlan(request, sizes_at_least=True).plan
            raise
        try:
            return plan_by_vllm(replace(request, notes=with_reason(request.notes, refusal)))
        except UnsupportedError as error:
            if weights_only:
                return StandalonePlan(request, sizes_at_least=True).plan
            raise UnsupportedError(f"{refusal}; and vLLM cannot answer: {error}") from None


def with_notes(request: PlanRequest) -> PlanRequest:
    """The request with what is to be said of its machine and its GPU, each sentence once."""
    notes = (*request.notes, *request.machine.notes)
    if request.gpu is not None and request.gpu != "cpu":
        notes = (*notes, *request.device.notes_for(request.args.num_gpus))
    return replace(request, notes=tuple(dict.fromkeys(notes)))


def plan_by_vllm(request: PlanRequest) -> Plan:
    """The plan of vLLM's own code; the memory is predicted where no flag says it."""
    from .memory.weights.checkpoint import check_whole
    from .vllm_adapter.budget import plan_with_budget
    from .vllm_adapter.shared import installed_planner

    check_whole(request.found, request.args.load_format, None)
    planner = installed_planner()
    return plan_with_budget(request, planner.plan_request, profile=planner.profile)
