"""What does not do it, and how near it came."""

from __future__ import annotations

from collections.abc import Collection

from .candidates import Candidate
from .found import Found
from .offer import Miss

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
        fewer = [
            self._nearest[kind, number]
            for number in range(1, num_gpus)
            if (kind, number) in self._nearest
        ]
        return max(fewer, key=lambda miss: (_requests(miss), miss.num_gpus), default=None)

    def of_devices(self, *, without: Collection[tuple[int, str]]) -> tuple[Miss, ...]:
        """For each model and device but some, the miss with the most GPUs."""
        found: dict[tuple[int, str], Miss] = {}
        for (kind, _), miss in self._nearest.items():
            known = found.get(kind[:2])
            if kind[:2] not in without and (known is None or _order(miss) > _order(known)):
                found[kind[:2]] = miss
        return tuple(found.values())


def why_missed(
    found: Found, requests: int, concurrency: int, *, seqs_fixed: bool
) -> tuple[str, str]:
    """Reason and sentence of a measured candidate that does not do it.

    Args:
        found: The candidate.
        requests: What one of its engines had to hold.
        concurrency: What all of them together had to.
        seqs_fixed: Whether ``max_num_seqs`` was not the search's to choose.
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


def _order(miss: Miss) -> tuple[int, int]:
    return miss.num_gpus, _requests(miss)
