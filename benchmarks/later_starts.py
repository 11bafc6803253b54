"""Published starts that were collected after the figures were made: none of them taught anything.

    python benchmarks/later_starts.py

``tests/data/later_starts.jsonl`` has one start a line: source, model, GPU, vLLM's version, flags
that differ from its defaults, and what the engine printed (GiB). Where the log does not say whether
the model was compiled in that start (``first``) or found in vLLM's cache (``later``), the plan's
nearer kind counts. Rules that these starts proved wrong may be mended; no number is fitted to them.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from vllm_kv_planner import Plan
from vllm_kv_planner.cli.planner_flags import parsed, request_of
from vllm_kv_planner.planner import plan_of

FILE = Path(__file__).resolve().parent.parent / "tests" / "data" / "later_starts.jsonl"
GIB = 1 << 30
_ROUNDED = 0.005 * GIB
"""Half of the last digit that an engine prints."""


def planned(record: dict[str, Any], *more: str) -> Plan:
    """The plan of a record's command line."""
    words = [record["model"], "--gpu", record["gpu"], "--vllm-version", record["vllm"]]
    given, _ = parsed("plan", [*words, *record["flags"], "--no-calibration", *more])
    return plan_of(request_of(given, record["model"]))


def nearest(found: Plan, start: str | None, actual: float) -> tuple[int, int]:
    """KV memory and band of the plan's kind of start, in bytes."""
    memory = found.memory
    kinds = [(each.available_kv_cache_bytes, each.uncertainty_bytes) for each in memory.starts]
    if start is not None and kinds:
        kinds = kinds[:1] if start == "first" else kinds[-1:]
    kinds = kinds or [(memory.available_kv_cache_bytes or 0, memory.uncertainty_bytes or 0)]
    return min(kinds, key=lambda kind: abs(kind[0] - actual))


def main() -> None:
    """Print every start, and what they say together."""
    errors, bands, inside, verdicts, blocks = [], [], 0, [], []
    records = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    for record in records:
        actual = record["available_kv_gib"] * GIB
        found = planned(record)
        said, band = nearest(found, record["start"], actual)
        errors.append(abs(said - actual) / actual)
        bands.append(band / actual)
        inside += abs(said - actual) <= band + _ROUNDED
        verdicts.append(found.verdict)
        model, where = record["model"].rpartition("/")[2], f"{record['gpu']}, {record['vllm']}"
        print(
            f"{model[:32]:<32} {where:<24} {actual / GIB:6.2f} GiB, planned {said / GIB:6.2f} "
            f"+- {band / GIB:.2f}  {(said - actual) / actual:+7.1%}  {found.verdict}"
        )
        tokens = record["kv_tokens"]
        if tokens and record["vllm"] != "0.10.0":  # which has no --kv-cache-memory-bytes yet
            given = planned(record, "--kv-cache-memory-bytes", str(int(actual))).kv_cache
            blocks.append(abs((given.kv_cache_size_tokens or 0) / tokens - 1))
    sources = {record["source"].partition(" (")[0] for record in records}
    print(
        f"{len(records)} starts of {len(sources)} sources: KV memory off by {median(errors)}, band "
        f"{median(bands)}, {inside} inside; tokens for the memory off by {median(blocks)}"
    )
    print({word: verdicts.count(word) for word in dict.fromkeys(verdicts)})


def median(shares: list[float]) -> str:
    """In words."""
    return f"{statistics.median(shares):.1%} in the middle"


if __name__ == "__main__":
    main()
