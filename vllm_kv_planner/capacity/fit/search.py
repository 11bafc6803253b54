"""The search: candidates best first, until enough of them do what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from ...engine_args.setup import described
from ...engine_args.value_types import flag_name
from ...errors import InputError, PlannerError
from ...planning.request import PlanRequest
from .candidates import EXPERTS_IN_ORDER, Candidate, Order, candidates
from .constraints import Constraints
from .measure import Measure
from .misses import Bounds, Found, Kind, Misses, kind_of, why_missed
from .offer import Miss
from .solve import best_batch

SIZES = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "prefill_context_parallel_size",
    "data_parallel_size",
)
MEASURED_HOPELESS = 8
"""Candidates that bounds ruled out, measured all the same where there is no offer."""


class Search:
    """One search; ``models`` are the engine asked for, once for each model named.

    Attributes:
        offers: Set-ups that fit, best first.
        nearest: The measured candidate that came nearest, where nothing fits.
        tried: Candidates looked at.
        is_complete: Whether these were all; False where there were offers enough before.
    """

    def __init__(self, models: Sequence[PlanRequest], constraints: Constraints) -> None:
        self.models = models
        self.constraints = constraints
        self.measure = Measure(fall_back=False)
        self.offers: list[Found] = []
        self._misses = Misses()
        self.nearest: Found | None = None
        self.tried = 0
        self.is_complete = True
        self._fewest: dict[Kind, int] = {}
        self._whole_experts: set[Order] = set()
        self._refusals: dict[int, PlannerError] = {}
        self._bounds = Bounds(self.measure)
        self._hopeless: list[tuple[int, Candidate]] = []

    def run(self) -> None:
        """Search; raises the first refusal where no set-up of any model can be planned."""
        is_moe = [described(each.found, each.args).is_moe for each in self.models]
        for candidate in candidates(self.constraints, is_moe):
            if len(self.offers) >= self.constraints.top:
                self.is_complete = False
                break
            if self._is_needless(candidate):
                continue
            self.tried += 1
            found = self._measured(candidate)
            if found is None:
                continue
            if found.surely:
                self._fewest.setdefault(kind_of(candidate), candidate.num_gpus)
            if not self._beaten(found):
                self.offers.append(found)
        if self.tried == 0:
            raise InputError(nothing_to_try(self.constraints))
        if not self.offers:
            self._measure_hopeless()
        if not self.offers and self.nearest is None and self._refusals:
            raise self._refusals[min(self._refusals)]

    def why_not_fewer(self, offer: Found) -> str:
        """Why fewer of the same device do not do it; empty where they do, or there are none."""
        kind = kind_of(offer.candidate)
        if self._fewest.get(kind, offer.candidate.num_gpus) < offer.candidate.num_gpus:
            return ""
        nearest = self._misses.below(kind, offer.candidate.num_gpus)
        return "" if nearest is None else nearest.message

    def nearest_misses(self) -> tuple[Miss, ...]:
        """For each model and device without an offer, the miss with the most GPUs."""
        if not self.is_complete:  # what it did not come to, it does not know
            return ()
        offered = {kind_of(each.candidate)[:2] for each in self.offers}
        return self._misses.of_devices(without=offered)

    def _is_needless(self, candidate: Candidate) -> bool:
        """More GPUs than are enough; experts divided within one engine that could be left whole."""
        fewest = self._fewest.get(kind_of(candidate), candidate.num_gpus)
        if candidate.num_gpus > fewest and not self.constraints.more_gpus:
            return True
        shape = candidate.shape
        divided = shape.enable_expert_parallel and shape.data_parallel_size == 1
        chosen = divided and "enable_expert_parallel" not in self.constraints.fixed
        return chosen and _without_expert_parallel(candidate) in self._whole_experts

    def _measured(self, candidate: Candidate) -> Found | None:
        """The candidate where it does what is asked for; else remember how near it came."""
        if self._is_hopeless(candidate):
            return None
        request = candidate.request(self.models[candidate.variant])
        requests = ceil(self.constraints.concurrency / candidate.shape.data_parallel_size)
        fixed = self.constraints.fixed
        try:
            chosen, measured = best_batch(request, requests, fixed, self.measure)
            if not measured.holds(requests) and self.constraints.borderline:
                chosen, measured = best_batch(request, requests, fixed, self.measure, surely=False)
        except PlannerError as refusal:
            self._refusals.setdefault(candidate.variant, refusal)
            self._note(candidate, "refused", None, str(refusal))
            return None
        self._whole_experts.add(_without_expert_parallel(candidate))
        surely = measured.holds(requests)
        found = Found(candidate=candidate, request=chosen, measured=measured, surely=surely)
        if surely or (self.constraints.borderline and measured.holds(requests, surely=False)):
            return found
        self._near(found)
        seqs_fixed = "max_num_seqs" in fixed
        why = why_missed(found, requests, self.constraints.concurrency, seqs_fixed=seqs_fixed)
        self._note(candidate, why[0], found.sure_requests or 0, why[1])
        return None

    def _beaten(self, found: Found) -> bool:
        """Whether an offer before it, of the same model and device, holds as many requests.

        One with a less preferred KV cache dtype does not count.
        """
        dtypes, mine = self.constraints.kv_cache_dtypes, found.sure_requests
        preferred = dtypes[: dtypes.index(found.candidate.kv_cache_dtype) + 1]
        for other in self.offers:
            same = (
                other.candidate.variant == found.candidate.variant
                and other.candidate.gpu is found.candidate.gpu
                and other.candidate.kv_cache_dtype in preferred
            )
            if not same or (found.surely and not other.surely):
                continue
            theirs = other.sure_requests
            if mine is None or theirs is None or theirs >= mine:
                return True
        return False

    def _is_hopeless(self, candidate: Candidate) -> bool:
        """Whether bounds alone rule the candidate out; remembers why."""
        model = self.models[candidate.variant]
        why = self._bounds.why_hopeless(candidate, model, self.constraints.concurrency)
        if why is None:
            return False
        self._hopeless.append((why[1] or 0, candidate))
        self._whole_experts.add(_without_expert_parallel(candidate))
        self._note(candidate, *why)
        return True

    def _measure_hopeless(self) -> None:
        """Measure the best of what bounds ruled out: it may have come nearest.

        The best holds the most requests; where none holds any, the one with the most memory does.
        """

        def order(each: tuple[int, Candidate]) -> tuple[object, ...]:
            requests, candidate = each
            memory = candidate.num_gpus * candidate.gpu.total_memory_bytes
            return -requests, -memory, candidate.rank

        best = sorted(self._hopeless, key=order)
        for _, candidate in best[:MEASURED_HOPELESS]:
            request = candidate.request(self.models[candidate.variant])
            try:
                measured = self.measure(request)
            except PlannerError as refusal:
                self._refusals.setdefault(candidate.variant, refusal)
                continue
            self._near(Found(candidate=candidate, request=request, measured=measured, surely=False))

    def _near(self, found: Found) -> None:
        if self.nearest is None or found.nearness > self.nearest.nearness:
            self.nearest = found

    def _note(self, candidate: Candidate, reason: str, requests: int | None, message: str) -> None:
        model = self.models[candidate.variant].found.id
        self._misses.note(candidate, model, reason, requests, message)


def nothing_to_try(constraints: Constraints) -> str:
    """Why there is no candidate: the parallel sizes given take more than there is."""
    given = [
        f"{flag_name(name)} {getattr(constraints.args, name)}"
        for name in SIZES
        if name in constraints.fixed
    ]
    counts = ", ".join(map(str, constraints.counts)) or "none"
    return (
        f"no number of GPUs agrees with {' '.join(given) or 'what is allowed'}: tried {counts} of "
        f"--max-gpus {constraints.max_gpus}, {constraints.gpus_per_node} in a machine"
    )


def _without_expert_parallel(candidate: Candidate) -> Order:
    """The rank of the same shape whose experts are left whole."""
    rank = list(candidate.rank)
    rank[EXPERTS_IN_ORDER] = False
    return tuple(rank)
