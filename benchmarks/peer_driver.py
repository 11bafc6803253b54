"""What a peer says of cases: run by the peer's own Python, cases in on stdin, answers out.

    PEER_PYTHON peer_driver.py hf-mem < cases.json

A case holds the model's ``config``, the weights of one GPU as the engine printed them, and the
flags; an answer ``kv_bytes`` (of one GPU) and ``concurrency``, or ``error``. Every peer is handed
what it would have looked up on the Hub, and the engine's own weights instead of its estimate, and
is not rounded down to whole requests: all in its favour.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

Case = dict[str, Any]
Answer = dict[str, Any]
GIB = 1 << 30


class NotExpressible(Exception):
    """The peer has no way to say this."""


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part, as each peer takes it."""
    nested = config.get("text_config")
    if not isinstance(nested, dict):
        return config
    above = {key: config[key] for key in ("dtype", "torch_dtype") if key in config}
    return {**above, "architectures": config.get("architectures"), **nested}


def is_fp8(case: Case) -> bool:
    """Whether the cache is kept in 8 bits."""
    return str(case["kv_cache_dtype"]).startswith("fp8")


def hf_mem(case: Case) -> Answer:
    """hf-mem knows weights and a batch's cache, no GPU: left is what is requested less weights."""
    module = import_module("hf_mem.safetensors.kv_cache")
    dtype = "F8_E4M3" if is_fp8(case) else "BF16"
    length = case["max_model_len"]
    request = module.compute_safetensors_kv_cache_size(text_config(case["config"]), dtype, length)
    return shared_evenly(case, left_over(case), request)


def kvfit(case: Case) -> Answer:
    """Kvfit: budget, weights divided evenly, its cache of a sequence; no pipeline stages."""
    if case["pp"] > 1:
        raise NotExpressible("no pipeline parallelism")
    architectures, planner = import_module("kvfit.architectures"), import_module("kvfit.planner")
    cache = architectures.estimate_cache(
        case["config"],
        context_tokens=case["max_model_len"],
        kv_bytes=1.0 if is_fp8(case) else 2.0,
    )
    (layout,) = planner.plan_topologies(
        cache,
        weight_bytes=int(case["weights_bytes"] * case["tp"]),
        hardware=SimpleNamespace(memory_gib=case["total_bytes"] / GIB),
        gpus=case["tp"],
        utilization=case["utilization"],
        tensor_parallel=case["tp"],
    )
    left = layout.budget_per_rank_bytes - layout.weights_per_rank_bytes
    left -= layout.fixed_cache_per_rank_bytes
    return {"kv_bytes": left, "concurrency": left / layout.kv_per_sequence_per_rank_bytes}


def ridgepoint(case: Case) -> Answer:
    """Ridgepoint: an H100 at 0.90; what more is asked for is added to its pool."""
    if case["pp"] > 1:
        raise NotExpressible("no pipeline parallelism")
    hf: Any = import_module("ridgepoint.hf")
    hf._download_json = lambda *_: case["config"]
    params = case["weights_bytes"] * case["tp"] // 2
    hf._params_from_index = lambda *_: int(params)
    found = json.loads(
        import_module("ridgepoint").fit(
            "of/case",
            "h100-80gb",
            count=case["tp"],
            dtype="fp16",
            kv_cache_dtype="fp8" if is_fp8(case) else "fp16",
            ctx=case["max_model_len"],
            prompt=min(2048, case["max_model_len"]),
            as_json=True,
        )
    )
    pool = found["memory"]["kv_pool_bytes"]["best"] / case["tp"]
    pool += (case["utilization"] - found["engine"]["util"]) * case["total_bytes"]
    return shared_evenly(case, pool, found["capacity"]["bytes_per_seq"])


def llm_d_planner(case: Case) -> Answer:
    """llm-d-planner: its own constants for activation and the rest, fitted to this very sweep."""
    if is_fp8(case):
        raise NotExpressible("the cache has the model's dtype")
    module: Any = import_module("planner.capacity_planner")
    gpus = case["tp"] * case["pp"]
    module.model_memory_req = lambda *_: case["weights_bytes"] * gpus / GIB
    config = as_object(case["config"])
    arguments = ("of/case", config)
    pool = module.allocatable_kv_cache_memory(
        *arguments,
        gpu_memory=case["total_bytes"] / GIB,
        gpu_util=case["utilization"],
        tp=case["tp"],
        pp=case["pp"],
        max_model_len=case["max_model_len"],
    )
    request = module.kv_cache_req(*arguments, case["max_model_len"])
    return {"kv_bytes": pool * GIB / gpus, "concurrency": pool / request}


def as_object(value: Any) -> Any:
    """A config with attributes, as transformers makes it; quantization_config stays as it is."""
    if not isinstance(value, dict):
        return value
    found = SimpleNamespace()
    for key, item in value.items():
        setattr(found, key, as_object(item) if key == "text_config" else item)
    heads = getattr(found, "num_attention_heads", None)
    if heads and not hasattr(found, "num_key_value_heads"):
        found.num_key_value_heads = heads
    if heads and getattr(found, "head_dim", None) is None and hasattr(found, "hidden_size"):
        found.head_dim = found.hidden_size // heads
    return found


def left_over(case: Case) -> float:
    """Requested memory of one GPU less the weights on it."""
    return float(case["utilization"] * case["total_bytes"] - case["weights_bytes"])


def shared_evenly(case: Case, kv_bytes: float, request_bytes: float) -> Answer:
    """Requests at once, where a request's cache is divided evenly among the GPUs."""
    gpus = case["tp"] * case["pp"]
    return {"kv_bytes": kv_bytes, "concurrency": kv_bytes * gpus / request_bytes}


PEERS: dict[str, Callable[[Case], Answer]] = {
    "hf-mem": hf_mem,
    "kvfit": kvfit,
    "ridgepoint": ridgepoint,
    "llm-d-planner": llm_d_planner,
}


def main() -> None:
    """Answer every case; what the peer refuses or trips over is an error of that case."""
    answer = PEERS[sys.argv[1]]
    found: list[Answer] = []
    for case in json.load(sys.stdin):
        try:
            found.append(answer(case))
        except Exception as error:  # whatever a peer does with a config is its answer
            found.append({"error": f"{type(error).__name__}: {error}"[:200]})
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
