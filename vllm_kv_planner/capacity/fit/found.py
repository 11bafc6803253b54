"""A candidate that was measured."""

from __future__ import annotations

from ...planning.request import PlanRequest
from ...records import dataclass
from .candidates import Candidate
from .measured import Measured


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

    @property
    def nearness(self) -> tuple[int, float, int]:
        """How near it comes to what is asked for; more is nearer."""
        replicas = self.candidate.shape.data_parallel_size
        likely = self.measured.concurrency * replicas
        return self.sure_requests or 0, likely, self.measured.pessimistic_bytes
