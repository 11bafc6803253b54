"""Set-ups that do not serve what is asked for, and how near they come.

Two bounds rule some out without measuring them, both on the safe side
(``tests/test_fit_bounds.py`` measures what they rule out):

* Dividing a model never makes its weights fewer, only more, where something is held twice or
  padded. So the fullest rank has at least an even share of them.
* Over one rank of every stage, the KV cache has at most what the engine may take less that
  share; a request takes at least what it takes with nothing in flight.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from math import ceil

from ...engine_args.setup import described
from ...errors import PlannerError
from ...planning.request import PlanRequest
from ...records import dataclass
from ...units import gib
from .candidates import Candidate
from .measure import Measure, Measured
from .offer import Miss


@dataclass(frozen=True, kw_only=True)
class Found:
    """A candidate that was measured, its batch chosen; ``measured`` is one engine of it.

    ``surely``: it does what is asked for even at the pessimistic end.
    """

    candidate: Candidate
    request: PlanRequest
    measured: Measured
    surely: bool

    @property
    def sure_requests(self) -> int | None:
        """Requests that surely run at once, all engines together; None: nothing is cached."""
        held = self.measured.pessimistic_requests if self.measured.fits else 0
        return None if held is None else held * self.candidate.shape.data_parallel_size

    @property
    def nearness(self) -> tuple[int, float, int]:
        """How near it comes to what is asked for; more is nearer."""
        replicas = self.candidate.shape.data_parallel_size
        likely = self.measured.concurrency * replicas
        return self.sure_requests or 0, likely, self.measured.pessimistic_bytes


Kind = tuple[int, str, str]
"""What a user chooses among: a model's number, a device's short name, a KV cache dtype."""


def kind_of(candidate: Candidate) -> Kind:
    """What a candidate is one way of."""
    return candidate.variant, candidate.gpu.short_name, candidate.kv_cache_dtype


class Misses:
    """For each kind and number of GPUs, the nearest of what does not do it."""

    def __init__(self) -> None:
        self._nearest: dict[tuple[Kind, int], Miss] = {}

    def note(
        self, candidate: Candidate, model: str, reason: str, requests: int | None, message: str
    ) -> None:
        """Keep the one with the most requests; a refusal says least."""
        key = kind_of(candidate), candidate.num_gpus
        known = self._nearest.get(key)
        if known is not None and _requests(known) >= (-1 if requests is None else requests):
            return
        plural = "" if candidate.num_gpus == 1 else "s"
        self._nearest[key] = Miss(
            model=model,
            gpu=candidate.gpu.short_name,
            num_gpus=candidate.num_gpus,
            reason=reason,
            requests=requests,
            message=f"{candidate.num_gpus} GPU{plural}: {message}",
        )

    def below(self, kind: Kind, num_gpus: int) -> Miss | None:
        """The nearest with fewer GPUs; None where none was tried."""
        keys = ((kind, number) for number in range(1, num_gpus))
        fewer = [self._nearest[key] for key in keys if key in self._nearest]
        return max(fewer, key=lambda miss: (_requests(miss), miss.num_gpus), default=None)

    def of_devices(self, *, without: Collection[tuple[int, str]]) -> tuple[Miss, ...]:
        """For each model and device but some, the miss with the most GPUs."""
        found: dict[tuple[int, str], Miss] = {}
        for (kind, _), miss in self._nearest.items():
            if kind[:2] not in without:
                known = found.get(kind[:2], miss)
                found[kind[:2]] = max(known, miss, key=lambda m: (m.num_gpus, _requests(m)))
        return tuple(found.values())


def why_missed(
    found: Found, requests: int, concurrency: int, *, seqs_fixed: bool
) -> tuple[str, str]:
    """Reason and sentence of a measured candidate that is no offer.

    One engine had to hold ``requests``, all of them together ``concurrency``; ``seqs_fixed``:
    ``max_num_seqs`` was not the search's to choose.
    """
    measured, held = found.measured, found.sure_requests or 0
    if measured.max_num_seqs < requests and seqs_fixed:
        return "max_num_seqs", f"max_num_seqs is fixed at {measured.max_num_seqs}"
    if measured.holds(requests, surely=False):
        return "borderline", "borderline: only if the prediction is exact"
    if measured.pessimistic_bytes <= 0:
        return "weights", "nothing is left for the KV cache"
    if held == 0 and found.candidate.shape.data_parallel_size == 1:
        return "kv_cache", f"KV cache for {max(measured.longest, 0):,} tokens of one request"
    return "kv_cache", f"KV cache for {held:,} of {concurrency:,} requests"


def _requests(miss: Miss) -> int:
    return -1 if miss.requests is None else miss.requests


SIZES = tuple(f"{kind}_parallel_size" for kind in ("tensor", "pipeline", "data"))
SIZES += ("prefill_context_parallel_size", "decode_context_parallel_size")
Why = tuple[str, int | None, str]
"""Reason, requests at most, and the sentence of a miss."""


class Bounds:
    """The bounds of one search; what they rest on is the same for devices of one capability."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._weights: dict[object, int | None] = {}
        self._request_bytes: dict[object, int] = {}

    def why_hopeless(
        self, candidate: Candidate, model: PlanRequest, concurrency: int
    ) -> Why | None:
        """Why the candidate cannot hold so many requests on all engines; None where it may."""
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
            self._weights[key] = None
            whole = model.on(gpu).with_args(**dict.fromkeys(SIZES, 1), enable_expert_parallel=False)
            with suppress(PlannerError):
                self._weights[key] = self._measure.weights_bytes(whole)
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
        with suppress(PlannerError):
            if key not in self._request_bytes:
                found = self._measure.least_request_bytes(candidate.request(model))
                self._request_bytes[key] = found
        return self._request_bytes.get(key, 0)
