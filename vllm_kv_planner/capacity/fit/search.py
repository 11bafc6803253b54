"""The search: candidates best first, until enough of them do what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from ...described import described
from ...errors import PlannerError
from ...records import dataclass
from ..request import PlanRequest
from .batch_choice import best_batch
from .bounds import Bounds
from .candidates import EXPERTS_IN_RANK, Candidate, Rank, candidates
from .constraints import Constraints
from .measure import Measure
from .measured import Measured
from .result import Miss


@dataclass(frozen=True, kw_only=True)
class Found:
    """A candidate that was measured.

    Attributes:
        candidate: Which.
        request: With its batch chosen.
        measured: What one engine of it holds.
        surely: Whether it does what is asked for even at the pessimistic end.
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


MEASURED_HOPELESS = 8
"""Candidates that bounds ruled out, measured all the same where there is no offer."""

Kind = tuple[int, str, str]
"""What a user chooses among: a model's number, a device's short name, a KV cache dtype."""


class Search:
    """One search; what it learns on the way is kept as long as it lives.

    Args:
        models: The engine asked for, once for each model named.
        constraints: What it must do and may use.

    Attributes:
        offers: What does it, best first.
        misses: For each kind and number of GPUs, the nearest of what does not.
        nearest: The measured candidate that came nearest, where nothing does.
        tried: Candidates looked at.
        is_complete: Whether these were all; False where there were offers enough before.
    """

    def __init__(self, models: Sequence[PlanRequest], constraints: Constraints) -> None:
        self.models = models
        self.constraints = constraints
        self.measure = Measure(fall_back=False)
        self.offers: list[Found] = []
        self.misses: dict[tuple[Kind, int], Miss] = {}
        self.nearest: Found | None = None
        self.tried = 0
        self.is_complete = True
        self._fewest: dict[Kind, int] = {}
        self._whole_experts: set[Rank] = set()
        self._refusals: dict[int, PlannerError] = {}
        self._planned: set[int] = set()
        self._bounds = Bounds(self.measure)
        self._hopeless: list[tuple[int, Candidate]] = []

    def run(self) -> None:
        """Search.

        Raises:
            PlannerError: No set-up of any model can be planned; the first refusal says why.
        """
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
                self._fewest.setdefault(_kind(candidate), candidate.num_gpus)
            if not self._beaten(found):
                self.offers.append(found)
        if not self._planned and self._refusals:
            raise self._refusals[min(self._refusals)]
        if not self.offers:
            self._measure_hopeless()

    def why_not_fewer(self, offer: Found) -> str:
        """Why fewer of the same device do not do it; empty where they do, or there are none."""
        kind = _kind(offer.candidate)
        if self._fewest.get(kind, offer.candidate.num_gpus) < offer.candidate.num_gpus:
            return ""
        for number in range(offer.candidate.num_gpus - 1, 0, -1):
            missed = self.misses.get((kind, number))
            if missed is not None:
                return missed.message
        return ""

    def nearest_misses(self) -> tuple[Miss, ...]:
        """For each model and device without an offer, the miss with the most GPUs.

        None where the search stopped early: what it did not come to, it does not know.
        """
        if not self.is_complete:
            return ()
        offered = {_kind(each.candidate)[:2] for each in self.offers}
        found: dict[tuple[int, str], Miss] = {}
        for (kind, _), miss in self.misses.items():
            known = found.get(kind[:2])
            if kind[:2] not in offered and (known is None or _order(miss) > _order(known)):
                found[kind[:2]] = miss
        return tuple(found.values())

    def _is_needless(self, candidate: Candidate) -> bool:
        """More GPUs than are enough; experts divided within one engine that could be left whole."""
        fewest = self._fewest.get(_kind(candidate), candidate.num_gpus)
        if candidate.num_gpus > fewest and not self.constraints.more_gpus:
            return True
        shape = candidate.shape
        chosen = "enable_expert_parallel" not in self.constraints.fixed
        return (
            chosen
            and shape.enable_expert_parallel
            and shape.data_parallel_size == 1
            and _without_expert_parallel(candidate) in self._whole_experts
        )

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
            self._refused(candidate, refusal)
            return None
        self._planned.add(candidate.variant)
        self._whole_experts.add(_without_expert_parallel(candidate))
        surely = measured.holds(requests)
        found = Found(candidate=candidate, request=chosen, measured=measured, surely=surely)
        if surely or (self.constraints.borderline and measured.holds(requests, surely=False)):
            return found
        self._missed(found, requests)
        return None

    def _beaten(self, found: Found) -> bool:
        """Whether an offer before it, of the same model and device, holds as many requests.

        One with a less preferred KV cache dtype does not count.
        """
        dtypes = self.constraints.kv_cache_dtypes
        order = dtypes.index(found.candidate.kv_cache_dtype)
        mine = found.sure_requests
        for other in self.offers:
            same = (
                other.candidate.variant == found.candidate.variant
                and other.candidate.gpu is found.candidate.gpu
                and dtypes.index(other.candidate.kv_cache_dtype) <= order
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
        self._planned.add(candidate.variant)
        self._whole_experts.add(_without_expert_parallel(candidate))
        self._note_miss(candidate, *why)
        return True

    def _measure_hopeless(self) -> None:
        """Measure the best of what bounds ruled out: it may have come nearest."""
        best = sorted(self._hopeless, key=lambda each: (-each[0], each[1].rank))
        for _, candidate in best[:MEASURED_HOPELESS]:
            request = candidate.request(self.models[candidate.variant])
            try:
                measured = self.measure(request)
            except PlannerError:
                continue
            self._near(Found(candidate=candidate, request=request, measured=measured, surely=False))

    def _near(self, found: Found) -> None:
        if self.nearest is None or _nearness(found) > _nearness(self.nearest):
            self.nearest = found

    def _missed(self, found: Found, requests: int) -> None:
        candidate, measured = found.candidate, found.measured
        self._near(found)
        replicas = candidate.shape.data_parallel_size
        held = found.sure_requests or 0
        asked = self.constraints.concurrency
        if measured.max_num_seqs < requests and "max_num_seqs" in self.constraints.fixed:
            reason, message = "max_num_seqs", f"max_num_seqs is fixed at {measured.max_num_seqs}"
        elif measured.holds(requests, surely=False):
            reason, message = "borderline", "borderline: only if the prediction is exact"
        elif measured.pessimistic_bytes <= 0:
            reason, message = "weights", "nothing is left for the KV cache"
        else:
            reason, message = "kv_cache", f"KV cache for {held:,} of {asked:,} requests"
            if replicas == 1 and held == 0:
                message = f"KV cache for {max(measured.longest, 0):,} tokens of one request"
        self._note_miss(candidate, reason, held, message)

    def _refused(self, candidate: Candidate, refusal: PlannerError) -> None:
        self._refusals.setdefault(candidate.variant, refusal)
        self._note_miss(candidate, "refused", None, str(refusal))

    def _note_miss(
        self, candidate: Candidate, reason: str, requests: int | None, message: str
    ) -> None:
        """Keep the nearest: the one with the most requests; a refusal says least."""
        key = _kind(candidate), candidate.num_gpus
        known = self.misses.get(key)
        if known is not None and _requests(known.requests) >= _requests(requests):
            return
        plural = "" if candidate.num_gpus == 1 else "s"
        self.misses[key] = Miss(
            model=self.models[candidate.variant].found.id,
            gpu=candidate.gpu.short_name,
            num_gpus=candidate.num_gpus,
            reason=reason,
            requests=requests,
            message=f"{candidate.num_gpus} GPU{plural}: {message}",
        )


def _kind(candidate: Candidate) -> Kind:
    return candidate.variant, candidate.gpu.short_name, candidate.kv_cache_dtype


def _order(miss: Miss) -> tuple[int, int]:
    return miss.num_gpus, _requests(miss.requests)


def _without_expert_parallel(candidate: Candidate) -> Rank:
    """The rank of the same shape whose experts are left whole."""
    rank = list(candidate.rank)
    rank[EXPERTS_IN_RANK] = False
    return tuple(rank)


def _requests(known: int | None) -> int:
    return -1 if known is None else known


def _nearness(found: Found) -> tuple[int, float, int]:
    measured = found.measured
    replicas = found.candidate.shape.data_parallel_size
    sure = found.sure_requests or 0
    return sure, measured.concurrency * replicas, measured.pessimistic_bytes
