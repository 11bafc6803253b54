"""One line of the comparison."""

from __future__ import annotations

from ..records import dataclass

GIB = 1 << 30
ROUNDING = int(0.0055 * GIB)
"""A figure printed with two decimals of a GiB says no more than this, in bytes."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One figure, predicted and actual.

    Attributes:
        name: What it is.
        unit: ``bytes``, ``count`` or ``times``.
        predicted: What would have been said; None where nothing.
        actual: What the engine said; None where it did not.
        band: How far off the prediction said it may be, in the same unit.
        reason: Why they differ, or that they do not.
    """

    name: str
    unit: str
    predicted: float | None
    actual: float | None
    band: float | None = None
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Actual less predicted."""
        if self.predicted is None or self.actual is None:
            return None
        return self.actual - self.predicted

    @property
    def agrees(self) -> bool:
        """Whether they are the same as far as the log's digits go."""
        difference = self.difference
        if difference is None:
            return False
        if self.unit == "bytes":
            return abs(difference) <= ROUNDING
        return abs(difference) <= (0.5 if self.unit == "count" else 0.0055)

    @property
    def within_band(self) -> bool:
        """Whether the prediction's own margin covers the difference."""
        return (
            self.difference is not None
            and self.band is not None
            and abs(self.difference) <= self.band + ROUNDING
        )
