"""What kept more requests from running, in a sentence."""

from __future__ import annotations

from .outcome import Spread
from .settings import EngineSettings

CAUSES = {
    "blocks": "kv_blocks",
    "seats": "max_num_seqs",
    "tokens": "max_num_batched_tokens",
    "interval": "prefill_schedule_interval",
    "": "none",
}
"""What kept the first waiting request out, by the engine's word for it."""

RARELY = 0.01
"""Share of the steps below which waiting is not worth a limit."""


def limit_sentence(
    settings: EngineSettings, limits: dict[str, int], steps: int, running: Spread
) -> str:
    """What would let more requests run."""
    waited = sum(limits.values())
    if waited <= RARELY * steps:
        return f"nothing: at most {running.most:,} requests were there at once, and all of them ran"
    cause = max(limits, key=lambda name: limits[name])
    share = f"in {100 * limits[cause] / steps:.0f} % of the steps the next request waited for"
    if cause == "kv_blocks":
        return f"KV cache: {share} blocks ({settings.num_gpu_blocks - 1:,} in all)"
    if cause == "max_num_seqs":
        return f"max_num_seqs {settings.max_num_seqs:,}: {share} a seat"
    if cause == "prefill_schedule_interval":
        return f"prefill_schedule_interval {settings.prefill_schedule_interval}: {share} its turn"
    return f"max_num_batched_tokens {settings.token_budget:,}: {share} room in a step"
