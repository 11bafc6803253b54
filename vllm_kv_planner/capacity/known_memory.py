"""Models whose KV memory nobody knows: what they keep is planned all the same."""

from __future__ import annotations

from ..planning.request import PlanRequest

STAND_IN_BYTES = 1 << 30
"""KV memory that a plan needs to be made; nothing that depends on it is shown."""

HAND_MADE = (
    "a hand-made model's weights are not known, so neither is what fits: --kv-cache-memory-bytes N"
)


def is_known(request: PlanRequest) -> bool:
    """Whether the KV memory is given, or the model has weights to predict it from."""
    return request.found.source != "custom" or is_given(request)


def is_given(request: PlanRequest) -> bool:
    """Whether the user states the KV memory."""
    return request.args.kv_cache_memory_bytes is not None


def with_stand_in(request: PlanRequest) -> PlanRequest:
    """The request in a form that can be planned whatever its weights are."""
    return request.with_args(kv_cache_memory_bytes=STAND_IN_BYTES)


def sizes_only(request: PlanRequest) -> PlanRequest:
    """The same by the rules restated here, after a refusal: vLLM has had its say."""
    from ..records import replace

    planner = "vllm" if request.planner == "vllm" else "standalone"
    return replace(with_stand_in(request), planner=planner)
