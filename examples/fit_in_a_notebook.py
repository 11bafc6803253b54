# SPDX-License-Identifier: Apache-2.0
"""Which GPUs serve 20 people at 32K, and what would one more flag buy? In cells.

    python examples/fit_in_a_notebook.py

Runs as a script, and cell by cell where an editor knows "# %%"; in a notebook the last line of a
cell shows itself as a table. No GPU, no weights and no vLLM are needed.
"""

# %% What to serve
import sys

try:
    from vllm_kv_planner import PlannerError, fit, longest_context, suggest
except ModuleNotFoundError as absent:
    print(f"error: {absent}: pip install vllm-kv-planner", file=sys.stderr)
    raise SystemExit(2) from None

MODEL = "meta-llama/Llama-3.1-8B-Instruct"

# %% Set-ups on three kinds of GPU, an 8-bit KV cache allowed; the fewest GPUs come first
found = fit(
    MODEL,
    gpu=["L4", "L40S", "H100"],
    context=32 * 1024,
    concurrency=20,
    kv_cache_dtype=["auto", "fp8"],
)
print(found)  # in a notebook: found

# %% The best of them: its command, and its whole plan
best = found.best
if best is None:
    raise SystemExit("nothing serves that")
print(best.command)
plan = best.plan()
print(f"fits: {plan.fits}, {plan.kv_cache.max_concurrency:.1f} requests at once")

# %% The same as data
offers = found.to_dict()["offers"]
print([f"{each['num_gpus']} x {each['gpu']}" for each in offers])
try:
    print(found.to_pandas()[["gpu", "num_gpus", "kv_cache_dtype", "sure_requests"]])
except PlannerError as error:  # pandas is not installed
    print(error)

# %% The longest context on each card by itself
print(longest_context(MODEL, gpu=["L4", "L40S", "H100"]))

# %% An engine that does not fit: what each single flag would buy
print(suggest(MODEL, gpu="L4", max_model_len=32 * 1024))
