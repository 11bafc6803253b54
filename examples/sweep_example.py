#!/usr/bin/env python3
"""Plan a model in every way a few GPUs allow, and print the best of each.

python examples/sweep_example.py --model Qwen/Qwen3-32B --gpus L40S,H100 --context 16384

Every combination is planned on all cores. "Best" is most requests of the full context for each
GPU that is paid for.
"""

from __future__ import annotations

import sys
from typing import Any

try:
    from vllm_kv_planner import sweep
    from vllm_kv_planner.cli.output import printing
    from vllm_kv_planner.engine_args.flags import FlagParser
except ModuleNotFoundError as absent:
    print(f"error: {absent}: pip install vllm-kv-planner", file=sys.stderr)
    raise SystemExit(2) from None


def main() -> int:
    """Plan all, keep what surely fits, print the best; where the input is wrong, one line."""
    parser = FlagParser(description="The best set-up of each GPU.")
    parser.add_argument("--model", default="Qwen/Qwen3-32B")
    parser.add_argument("--gpus", default="L40S,A100-80GB,H100")
    parser.add_argument("--context", type=int, default=16_384)
    given = parser.parse_args()
    result = sweep(
        given.model,
        gpus=given.gpus.split(","),
        grid={"tensor_parallel_size": [1, 2, 4, 8], "kv_cache_dtype": ["auto", "fp8"]},
        max_model_len=given.context,
    )
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    print(f"{result.total} set-ups, {result.fit} fit, {result.errors} cannot be")
    print(f"{given.model}, requests of {given.context:,} tokens at once")
    for gpu in given.gpus.split(","):
        fitting = [row for row in rows if row["gpu"] == gpu and row["fits"]]
        print(f"  {gpu:<12}{described(max(fitting, key=worth)) if fitting else 'nothing fits'}")
    return 0


def worth(row: dict[str, Any]) -> float:
    """Concurrency for each GPU."""
    concurrency: float = row["kv_cache.max_concurrency"]
    gpus: int = row["gpu.num_gpus"]
    return concurrency / gpus


def described(row: dict[str, Any]) -> str:
    """The set-up and what it holds."""
    flags = f"-tp {row['tensor_parallel_size']} --kv-cache-dtype {row['kv_cache_dtype']}"
    return f"{row['kv_cache.max_concurrency']:8.1f}   {flags}"


if __name__ == "__main__":
    sys.exit(printing(main))
