"""One flag changed, and what that buys."""

from __future__ import annotations

from typing import Any

from ...records import dataclass
from ...units import GIB


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """One change of one flag, planned again for real.

    Attributes:
        flag: vLLM's name of it, such as ``kv_cache_dtype``; ``gpu`` for another device.
        value: Its new value.
        text: As it stands on the command line.
        costs: What one gives for it, in a few words.
        fits: Whether the changed set-up surely does what is asked for.
        available_kv_cache_bytes: KV memory of the tightest GPU, after the change.
        available_delta_bytes: How much more that is than before.
        concurrency: Requests of ``max_model_len`` at once, all engines together, after the change.
        concurrency_ratio: Times as many as before; None where there were none.
        max_model_len_that_fits: The longest context one request may have, after the change.
    """

    flag: str
    value: Any
    text: str
    costs: str
    fits: bool
    available_kv_cache_bytes: int
    available_delta_bytes: int
    concurrency: float
    concurrency_ratio: float | None
    max_model_len_that_fits: int

    @property
    def line(self) -> str:
        """``--enforce-eager: +0.50 GiB a GPU, 1.10x the requests (slower decoding)``."""
        bought = []
        if self.available_delta_bytes:
            bought.append(f"{self.available_delta_bytes / GIB:+,.2f} GiB a GPU")
        if self.concurrency_ratio is not None:
            bought.append(f"{self.concurrency_ratio:.2f}x the requests")
        does = "fits: " if self.fits else ""
        return f"{self.text}: {does}{', '.join(bought)} ({self.costs})"
