# SPDX-License-Identifier: Apache-2.0
"""Estimate the KV cache memory of a model, before any engine is launched and without a GPU.

    python examples/kv_cache_memory_estimator.py --model gpt2 --seq-len 1024

The model may be a Hub id, a local directory or a config.json; only its config is read, and many
published ones come with the planner. vLLM itself is not needed.
"""

import argparse
import sys
from typing import NoReturn

try:
    from vllm_kv_planner import InputError, KVCacheEstimate, estimate_kv_cache
    from vllm_kv_planner.cli.output import printing
    from vllm_kv_planner.units import gib
except ModuleNotFoundError as absent:
    print(f"error: {absent}: pip install vllm-kv-planner", file=sys.stderr)
    raise SystemExit(2) from None


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Exit code 2."""
        raise InputError(message)


def parse_args() -> argparse.Namespace:
    """The flags of vLLM pull request 29736."""
    parser = Parser(description="Estimate KV cache memory.")
    parser.add_argument("--model", required=True, help="Hub id, directory or config.json")
    parser.add_argument("--seq-len", type=int, required=True, help="tokens of one sequence")
    parser.add_argument("--batch-size", type=int, default=1, help="sequences at once (1)")
    parser.add_argument(
        "--dtype",
        default="auto",
        help="auto (the model's own), fp16, bf16, fp32, fp8, or any --kv-cache-dtype of vLLM",
    )
    return parser.parse_args()


def lines(estimate: KVCacheEstimate) -> list[str]:
    """The estimate, line by line."""
    rows = [("Model", estimate.model), ("Layers", str(estimate.num_layers))]
    if estimate.is_plain:
        # Keys and values are kept per KV head, not per query head: what GQA and MQA save.
        rows += [("KV heads", str(estimate.kv_heads)), ("Head size", str(estimate.head_size))]
    else:
        rows += [("Cache layers", str(kind)) for kind in estimate.kinds]
    rows += [
        ("Batch size", f"{estimate.batch_size:,}"),
        ("Seq length", f"{estimate.seq_len:,}"),
        ("Dtype", estimate.dtype),
        ("Rule", estimate.rule),
    ]
    answer = [f"{label + ':':<15}{value}" for label, value in rows]
    answer += ["-" * 31, f"Approx KV cache memory: {gib(estimate.approx_bytes)}"]
    answer.append(
        f"vLLM reserves whole blocks: {estimate.blocks_per_sequence:,} blocks a sequence, "
        f"{gib(estimate.reserved_bytes_per_sequence)} each, {gib(estimate.reserved_bytes)} in all"
    )
    return answer + [f"note: {note}" for note in estimate.notes]


def main() -> int:
    """Print the estimate; exit code 2 and one line on stderr where the input is wrong."""
    args = parse_args()
    estimate = estimate_kv_cache(
        args.model, seq_len=args.seq_len, batch_size=args.batch_size, dtype=args.dtype
    )
    print("\n".join(lines(estimate)))
    return 0


if __name__ == "__main__":
    sys.exit(printing(main))
