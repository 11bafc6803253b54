"""What no set-up can do, known without measuring it.

Two bounds, both on the safe side (``tests/test_fit_bounds.py`` measures what they rule out):

* Dividing a model never makes its weights fewer, only more, where something is held twice or
  padded. So the fullest rank has at least an even share of them.
* Over one rank of every stage, the KV cache has at most what the engine may take less that
  share; a request takes at least what it takes with nothing in flight.
"""

from __future__ import annotations

from math import ceil

from ...engine_args.described import described
from ...errors import PlannerError
from ...planning.request import PlanRequest
from ...units import gib
from .candidates import Candidate
from .measure import Measure

Why = tuple[str, int | None, str]
"""Reason, requests at most, and the sentence of a miss."""


class Bounds:
    """The bounds of one search; what they rest on is the same for devices of one capability.

    Args:
        measure: The search's own.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._weights: dict[object, int | None] = {}
        self._request_bytes: dict[object, int] = {}

    def why_hopeless(
        self, candidate: Candidate, model: PlanRequest, concurrency: int
    ) -> Why | None:
        """Why the candidate cannot hold so many requests; None where it may.

        Args:
            candidate: The set-up.
            model: Its model's engine.
            concurrency: Requests at once, all data-parallel engines together.
        """
        args = model.args
        pretended = args.kv_cache_memory_bytes is not None or args.num_gpu_blocks_override
        if pretended or model.machine.calibration is not None:
            return None
        weights = self._whole_weights(candidate, model)
        if weights is None:
            return None
        shape = candidate.shape
        replicas, stages = shape.data_parallel_size, shape.pipeline_parallel_size
        shared_by = shape.tensor_parallel_size * args.prefill_context_parallel_size
        if described(model.found, args).is_moe:  # replicas share the experts, at the most
            shared_by *= replicas
        device = model.machine.device(candidate.gpu)
        requested = ceil(device.total_memory_bytes * args.gpu_memory_utilization)
        share = weights // shared_by // stages
        if share > requested:
            why = f"weights of {gib(share)} a GPU, of which {gib(requested)} may be taken"
            return "weights", 0, why
        each = self._least_request_bytes(candidate, model)
        if each == 0:
            return None
        most = replicas * ((requested * stages - weights // shared_by) // each)
        if most >= concurrency:
            return None
        return "kv_cache", most, f"KV cache for {most:,} of {concurrency:,} requests at most"

    def _whole_weights(self, candidate: Candidate, model: PlanRequest) -> int | None:
        """The weights in one piece; None where they are not known so."""
        if model.args.cpu_offload_gb or model.args.offload_group_size:
            return None
        gpu = candidate.gpu
        key = candidate.variant, gpu.platform, gpu.compute_capability
        if key not in self._weights:
            whole = model.on(gpu).with_args(
                tensor_parallel_size=1,
                pipeline_parallel_size=1,
                data_parallel_size=1,
                prefill_context_parallel_size=1,
                decode_context_parallel_size=1,
                enable_expert_parallel=False,
            )
            try:
                self._weights[key] = self._measure.weights_bytes(whole)
            except PlannerError:
                self._weights[key] = None
        return self._weights[key]

    def _least_request_bytes(self, candidate: Candidate, model: PlanRequest) -> int:
        """Bytes of one request over the stages; 0 where that is not known."""
        gpu, shape = candidate.gpu, candidate.shape
        key = (
            candidate.variant,
            gpu.platform,
            gpu.compute_capability,
            candidate.kv_cache_dtype,
            shape.tensor_parallel_size,
            shape.pipeline_parallel_size,
        )
        if key not in self._request_bytes:
            try:
                found = self._measure.least_request_bytes(candidate.request(model))
            except PlannerError:
                return 0
            self._request_bytes[key] = found
        return self._request_bytes[key]
