# SPDX-License-Identifier: Apache-2.0
"""How many requests really run together, and what two changes would do to that?

    python examples/workload_example.py --model Qwen/Qwen2.5-7B-Instruct --gpu A10G

No GPU, no weights and no vLLM are needed.
"""

import sys

try:
    from vllm_kv_planner import RequestSource, plan_request, run_workload
    from vllm_kv_planner.cli.output import printing
    from vllm_kv_planner.engine_args.flags import FlagParser
    from vllm_kv_planner.workload.figures import headline
except ModuleNotFoundError as absent:
    print(f"error: {absent}: pip install vllm-kv-planner", file=sys.stderr)
    raise SystemExit(2) from None


def main() -> int:
    """Print one answer for each set-up; exit code 2 and one line where the input is wrong."""
    parser = FlagParser(description="Requests that run together, in three set-ups.")
    parser.add_argument("--model", default="Qwen/Qwen2.5-7B-Instruct", help="Hub id, folder, file")
    parser.add_argument("--gpu", default="A10G", help="any name of the catalogue")
    parser.add_argument("--prompt-tokens", default="lognormal:mean=800,sigma=0.6,max=3000")
    parser.add_argument("--output-tokens", default="100-300")
    parser.add_argument("--requests", type=int, default=400)
    args = parser.parse_args()
    source = RequestSource(
        prompt_tokens=args.prompt_tokens, output_tokens=args.output_tokens, requests=args.requests
    )
    engine = plan_request(args.model, gpu=args.gpu, max_model_len=4096)
    set_ups = {
        "as it is": engine,
        "with an fp8 KV cache": engine.with_args(kv_cache_dtype="fp8"),
        "with at most 32 requests at once": engine.with_args(max_num_seqs=32),
    }
    for name, set_up in set_ups.items():
        result = run_workload(set_up, source.open().requests)
        print(f"{name}: {' '.join(headline(result))}")
        # also result.to_dict(), .to_pandas(), or just look at it in a notebook
    return 0


if __name__ == "__main__":
    sys.exit(printing(main))
