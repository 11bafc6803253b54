"""Hand-made models: their cache is described, their weights are not."""

from __future__ import annotations

from .request import PlanRequest

STAND_IN_BYTES = 1 << 30
"""KV memory that a plan needs to be made; nothing that depends on it is shown."""


def with_some_memory(request: PlanRequest) -> tuple[PlanRequest, bool]:
    """The request in a form that can be planned, and whether its KV memory means anything.

    The weights of a hand-made model are not known, so what is left on a GPU is not either, unless
    the user states it with ``kv_cache_memory_bytes``.
    """
    if request.found.source != "custom" or request.args.kv_cache_memory_bytes is not None:
        return request, True
    return request.with_args(kv_cache_memory_bytes=STAND_IN_BYTES), False
