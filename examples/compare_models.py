# SPDX-License-Identifier: Apache-2.0
"""Which model serves most users on one GPU, at the context they need?

    python examples/compare_models.py --gpu H100 --context 16384

No GPU, no weights and no vLLM are needed; the models' configs come with the planner.
"""

import sys

try:
    from vllm_kv_planner import compare_models
    from vllm_kv_planner.cli.output import printing
    from vllm_kv_planner.engine_args.flags import FlagParser
except ModuleNotFoundError as absent:
    print(f"error: {absent}: pip install vllm-kv-planner", file=sys.stderr)
    raise SystemExit(2) from None

MODELS = [
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen3-8B",
    "google/gemma-3-12b-it",
    "openai/gpt-oss-20b",
]


def main() -> int:
    """Print the comparison and the answer; exit code 2 and one line where the input is wrong."""
    parser = FlagParser(description="Compare models on one GPU.")
    parser.add_argument("models", nargs="*", default=MODELS, help="Hub ids, folders, config.json")
    parser.add_argument("--gpu", default="H100", help="any name of the catalogue")
    parser.add_argument("--context", type=int, default=16384, help="tokens of one request")
    args = parser.parse_args()
    comparison = compare_models(args.models, gpu=args.gpu, lengths=[args.context])
    print(comparison)  # also comparison.to_dict(), .to_pandas(), or just look at it in a notebook
    at_once = {
        each.model: each.at[0].max_concurrency or 0.0
        for each in comparison.models
        if each.at and each.at[0] is not None  # None: the model does not reach this context
    }
    if at_once:
        best = max(at_once, key=lambda model: at_once[model])
        print(f"\nmost requests of {args.context:,} tokens: {best}, {at_once[best]:.1f} at once")
    return 0 if at_once else 1


if __name__ == "__main__":
    sys.exit(printing(main))
