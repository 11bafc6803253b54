#!/usr/bin/env python3
"""Plan an engine, launch it, and print predicted beside actual.

python examples/plan_then_launch.py --model facebook/opt-125m --max-model-len 1024

Runs wherever vLLM does. With vLLM's CPU build say how much memory the KV cache gets
(VLLM_CPU_KVCACHE_SPACE, in GiB, or --kv-cache-memory-bytes); on a GPU --kv-cache-memory-bytes.
"""

from __future__ import annotations

import sys
from typing import Any

try:
    from vllm_kv_planner import InputError, plan_engine
    from vllm_kv_planner.cli.output import printing
    from vllm_kv_planner.engine_args.flags import FlagParser
except ModuleNotFoundError as absent:
    print(f"error: {absent}: pip install vllm-kv-planner", file=sys.stderr)
    raise SystemExit(2) from None


def main() -> int:
    """Plan, launch, compare, generate; where the input is wrong or vLLM is absent, one line."""
    parser = FlagParser(description="Plan an engine, launch it, compare.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--kv-cache-memory-bytes", type=int)
    given = parser.parse_args()
    engine: dict[str, Any] = {
        "model": given.model,
        "max_model_len": given.max_model_len,
        "kv_cache_memory_bytes": given.kv_cache_memory_bytes,
        "enforce_eager": True,
        "skip_tokenizer_init": True,
    }

    # Before launch: vLLM's own code plans, in a process of its own that loads no weights.
    plan = plan_engine(engine)
    if not plan.fits:
        print(f"does not fit: {' '.join(plan.notes)}", file=sys.stderr)
        return 1

    try:
        from vllm import LLM, SamplingParams
    except ModuleNotFoundError as absent:
        raise InputError(f"{absent}: the engine is launched here, with vLLM") from None

    llm = LLM(**engine)
    actual = llm.llm_engine.vllm_config.cache_config
    rows = [
        ("num_gpu_blocks", plan.kv_cache.num_gpu_blocks, actual.num_gpu_blocks),
        ("kv_cache_size_tokens", plan.kv_cache.kv_cache_size_tokens, actual.kv_cache_size_tokens),
        ("max_concurrency", plan.kv_cache.max_concurrency, actual.kv_cache_max_concurrency),
    ]
    print(f"\n{plan.model.architecture} on {plan.gpu.name}: predicted, actual")
    for name, predicted, found in rows:
        print(f"  {name:<22}{predicted:>16,}{found:>16,}")

    prompt: Any = {"prompt_token_ids": [1, 2, 3]}
    answer = llm.generate([prompt], SamplingParams(max_tokens=8, detokenize=False))
    print(f"generated tokens: {list(answer[0].outputs[0].token_ids)}")
    return 0


if __name__ == "__main__":
    sys.exit(printing(main))
