"""What one set-up holds, likely and at the worst.

``Measure`` remembers every set-up for as long as one search takes; what it measures is what
``plan_of`` says (``tests/test_fit_measure.py`` compares them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...engine_args.setup import described
from ...errors import PlannerError, UnsupportedError, WeightsUnknownError
from ...kv_cache.capacity import KVCachePlan
from ...kv_cache.specs import RequestLimits
from ...planner import plan_of
from ...planning.memory import KVMemory
from ...planning.request import PlanRequest
from ...planning.standalone import StandalonePlan, longest_worth_trying, plan_blocks
from ...planning.types import DOES_NOT_FIT, FITS
from ...planning.verdict import Verdict, needs_states
from ...records import dataclass, replace

if TYPE_CHECKING:
    from ...planning.types import Plan


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One engine's KV cache. With data parallelism: of one replica.

    Attributes:
        fits: Whether the engine surely starts: at the pessimistic end.
        why_not: Why it may not; empty where it does.
        may_fit: Whether it starts if the prediction is exact.
        available_bytes: KV memory of the tightest GPU.
        pessimistic_bytes: The same if every part of the budget is as large as it may be.
        weights_bytes: Weights on that GPU; None where nothing was predicted.
        requested_bytes: What the engine may take of it; None likewise.
        concurrency: vLLM's "Maximum concurrency".
        requests: Requests of ``max_model_len`` that really run at once: whole ones, and the null
            block, which is never handed out, not counted; None where nothing is cached.
        pessimistic_requests: The same at the pessimistic end.
        most_requests: More than this no smaller batch holds, likely: with nothing but weights in
            the budget, and nothing in flight; None where nothing is cached, or it is not known.
        blocks_per_request: Blocks of one such request.
        bytes_per_block: On the tightest GPU.
        max_model_len: Tokens.
        longest: The longest ``max_model_len`` that one request may have, likely.
        model_len: Tokens that the model itself allows.
        max_num_seqs: Requests a step takes.
        max_num_batched_tokens: Tokens a step takes.
        most_seqs: The largest ``max_num_seqs`` that vLLM surely captures graphs for, with states
            in these blocks; None where it is not bound.
    """

    fits: bool
    why_not: str
    may_fit: bool
    available_bytes: int
    pessimistic_bytes: int
    weights_bytes: int | None
    requested_bytes: int | None
    concurrency: float
    requests: int | None
    pessimistic_requests: int | None
    most_requests: int | None
    blocks_per_request: int
    bytes_per_block: int
    max_model_len: int
    longest: int
    model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    most_seqs: int | None = None

    @property
    def has_states(self) -> bool:
        """Whether every sequence of a step surely has a block for its state, where it needs one."""
        return self.most_seqs is None or self.max_num_seqs <= self.most_seqs

    def holds(self, requests: int, *, surely: bool = True) -> bool:
        """Whether so many requests run at once: the KV cache holds them, a step takes them."""
        held = self.pessimistic_requests if surely else self.requests
        starts = self.fits if surely else self.may_fit
        return starts and self.max_num_seqs >= requests and (held is None or held >= requests)

    def spare_bytes(self, requests: int) -> int:
        """KV memory of the tightest GPU that so many requests leave over, at the worst."""
        needed = (requests * self.blocks_per_request + 1) * self.bytes_per_block
        return self.pessimistic_bytes - needed


def measured_of(made: StandalonePlan) -> Measured:
    """What an engine holds, by its plan's stages."""
    setup, memory, blocks, worst = made.setup, made.memory, made.blocks, made.worst_blocks
    verdict, limits = made.verdict, made.limits
    info = memory.info(blocks.tightest)
    worker = blocks.worker
    return Measured(
        fits=verdict.word == FITS,
        why_not="".join(verdict.notes[:1]),
        may_fit=blocks.fits and verdict.word != DOES_NOT_FIT,
        available_bytes=memory.available[blocks.tightest],
        pessimistic_bytes=memory.pessimistic[blocks.tightest],
        weights_bytes=info.weights_bytes,
        requested_bytes=info.requested_bytes,
        concurrency=blocks.max_concurrency,
        requests=_whole_requests(blocks),
        pessimistic_requests=_whole_requests(worst),
        most_requests=_most_requests(memory, blocks, limits),
        blocks_per_request=_blocks_per_request(blocks),
        bytes_per_block=0 if worker is None else worker.bytes_per_block,
        max_model_len=blocks.max_model_len,
        longest=blocks.max_model_len_that_fits,
        model_len=longest_worth_trying(setup),
        max_num_seqs=setup.resolved.batch.max_num_seqs,
        max_num_batched_tokens=setup.resolved.batch.max_num_batched_tokens,
        most_seqs=worst.num_gpu_blocks if needs_states(setup, blocks, made.version) else None,
    )


def _blocks_per_request(blocks: KVCachePlan) -> int:
    return max((worker.blocks_per_request for worker in blocks.workers), default=0)


def _whole_requests(blocks: KVCachePlan) -> int | None:
    if not blocks.workers:
        return None
    return max(blocks.num_gpu_blocks - 1, 0) // max(_blocks_per_request(blocks), 1)


def alone(limits: RequestLimits) -> RequestLimits:
    """A request with nothing in flight beside it."""
    return replace(limits, max_in_flight_tokens=1, max_num_encoder_input_tokens=0)


def _most_requests(memory: KVMemory, blocks: KVCachePlan, limits: RequestLimits) -> int | None:
    """What the stage with the least memory held if a step took none, and kept nothing in flight."""
    stage = memory.available.index(min(memory.available))
    info = memory.info(stage)
    if not blocks.workers or info.requested_bytes is None:
        return None
    nothing_else = alone(limits)
    worker = blocks.workers[stage]
    each = sum(group.blocks_per_request(nothing_else) for group in worker.groups)
    room = min(memory.available) + (info.activation_peak_bytes or 0) + (info.cuda_graph_bytes or 0)
    return max(room // max(worker.bytes_per_block, 1) - 1, 0) // max(each, 1)


def measured_by_plan(request: PlanRequest) -> Measured:
    """The same from whole plans; the pessimistic end is planned as ``--kv-cache-memory-bytes``."""
    likely = plan_of(request)
    memory, cache = likely.memory, likely.kv_cache
    if memory.available_kv_cache_bytes is None:
        raise WeightsUnknownError(likely.limits[0])
    worst_bytes = memory.available_kv_cache_bytes - (memory.uncertainty_bytes or 0)
    worst = likely
    if memory.uncertainty_bytes and worst_bytes > 0:
        worst = plan_of(request.with_args(kv_cache_memory_bytes=worst_bytes))
    return Measured(
        fits=likely.fits,
        why_not="".join(Verdict(word=likely.verdict, limits=likely.limits).notes[:1]),
        may_fit=likely.verdict != DOES_NOT_FIT,
        available_bytes=memory.available_kv_cache_bytes,
        pessimistic_bytes=worst_bytes,
        weights_bytes=memory.weights_bytes,
        requested_bytes=memory.requested_bytes,
        concurrency=cache.max_concurrency or 0.0,
        requests=_requests_of(likely),
        pessimistic_requests=_requests_of(worst) if worst_bytes > 0 else 0,
        most_requests=None,
        blocks_per_request=sum(group.blocks_per_request for group in cache.groups),
        bytes_per_block=cache.bytes_per_block,
        max_model_len=likely.engine.max_model_len,
        longest=cache.max_model_len_that_fits or 0,
        model_len=max(likely.engine.max_model_len, cache.max_model_len_that_fits or 0),
        max_num_seqs=likely.engine.max_num_seqs,
        max_num_batched_tokens=likely.engine.max_num_batched_tokens,
    )


def _requests_of(plan: Plan) -> int | None:
    each = sum(group.blocks_per_request for group in plan.kv_cache.groups)
    if not plan.kv_cache.groups:
        return None
    return max((plan.kv_cache.num_gpu_blocks or 0) - 1, 0) // max(each, 1)


Measurer = Callable[[PlanRequest], Measured]


class Measure:
    """Measures set-ups, each once.

    With ``fall_back``, vLLM's own code is asked where the rules restated here do not know the
    engine, as ``planner="auto"`` does; a search does not, for it would ask hundreds of times.
    """

    def __init__(self, *, fall_back: bool = True) -> None:
        self._fall_back = fall_back
        self._known: dict[Any, tuple[PlanRequest, Measured | PlannerError]] = {}

    def __call__(self, request: PlanRequest) -> Measured:
        """What the request's set-up holds; raises its PlannerError where it cannot be planned."""
        key = _key(request)
        if key not in self._known:
            # the request too, so that the ids of its parts cannot come to mean others
            try:
                self._known[key] = request, self._measured(request)
            except PlannerError as refusal:
                self._known[key] = request, refusal
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
        """Weights of the fullest GPU, whether they fit or not."""
        return max(StandalonePlan(request).weights.loaded_bytes)

    def least_request_bytes(self, request: PlanRequest) -> int:
        """KV memory that one request takes at least, over one rank of every stage; 0: none.

        Whatever the batch: with nothing in flight. Weights play no part.
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
        # replicas know of each other only to share experts
        args["data_parallel_size"] if described(request.found, request.args).is_moe else 1,
        *(repr(value) for name, value in args.items() if name != "data_parallel_size"),
    )
