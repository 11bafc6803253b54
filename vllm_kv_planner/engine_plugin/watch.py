"""What is said of one start: the plan before it, what came of it after it.

The process that launches the engine plans it, from vLLM's own resolved config, and leaves the plan
in a folder that its children know by ``KV_PLANNER_STATE``; the engine's core compares and leaves
its figures there for the metrics. Where processes do not share a machine or an environment, the
core plans by itself. Of several data-parallel engines the first one speaks.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ..planning.types import BORDERLINE, DOES_NOT_FIT, Plan
from ..units import gib
from .config import planned
from .telling import guarded, say, warn

STATE = "KV_PLANNER_STATE"
PREDICTED, ACTUAL = "predicted.json", "actual.json"
Figures = Mapping[str, Any]


def before_start(vllm_config: Any, mode: str) -> str | None:
    """Plan the engine and say so; the refusal, where the mode wants one.

    Args:
        vllm_config: vLLM's ``VllmConfig``, resolved.
        mode: ``report``, ``enforce`` (what surely does not fit is refused) or ``enforce=strict``
            (what may not fit, too).
    """
    os.environ.pop(STATE, None)
    if vllm_config is None or not speaks(vllm_config):
        return None
    plan = planned(vllm_config)
    figures = figures_of(plan)
    keep(PREDICTED, {**figures, "plan": plan.to_dict()})
    refused = {"enforce": (DOES_NOT_FIT,), "enforce=strict": (DOES_NOT_FIT, BORDERLINE)}
    if plan.verdict not in refused.get(mode, ()):
        say(before_line(plan, figures))
        return None
    return refusal_line(plan)


def after_start(core: Any, vllm_config: Any) -> None:
    """Compare what the engine has with its plan, say so, and leave the figures for the metrics."""
    if not speaks(vllm_config):
        return
    predicted = kept(PREDICTED) or figures_of(planned(vllm_config))
    actual = measured(core, vllm_config)
    keep(ACTUAL, actual)
    say(after_line(predicted, actual))


def speaks(vllm_config: Any) -> bool:
    """Whether this engine is the one that speaks for all: the first of its data-parallel group."""
    parallel = vllm_config.parallel_config
    if getattr(parallel, "data_parallel_external_lb", False):
        return True
    index = getattr(parallel, "data_parallel_index", 0)
    return not index and not parallel.data_parallel_rank


def figures_of(plan: Plan) -> dict[str, Any]:
    """What can be compared with an engine, of a plan; memory in bytes, None: not known."""
    memory, blocks = plan.memory, plan.kv_cache
    return {
        "verdict": plan.verdict,
        "kv_cache_bytes": memory.available_kv_cache_bytes,
        "band_bytes": memory.uncertainty_bytes,
        "weights_bytes": memory.weights_bytes,
        "activation_peak_bytes": memory.activation_peak_bytes,
        "gpu_blocks": blocks.num_gpu_blocks,
        "kv_cache_tokens": blocks.kv_cache_size_tokens,
        "max_concurrency": blocks.max_concurrency,
        "max_model_len": plan.engine.max_model_len,
    }


def measured(core: Any, vllm_config: Any) -> dict[str, Any]:
    """The same of the engine, by the names of ``figures_of``; parts of the first worker."""
    cache = vllm_config.cache_config
    found: dict[str, Any] = {
        "kv_cache_bytes": getattr(core, "available_gpu_memory_for_kv_cache", None),
        "gpu_blocks": cache.num_gpu_blocks,
        "kv_cache_tokens": getattr(cache, "kv_cache_size_tokens", None),
        "max_concurrency": getattr(cache, "kv_cache_max_concurrency", None),
        "max_model_len": vllm_config.model_config.max_model_len,
    }
    if str(vllm_config.device_config.device_type) == "cuda":
        parts = guarded(core.model_executor.collective_rpc)(worker_memory)
        found |= parts[0] if parts else {}
    return {key: value for key, value in found.items() if value is not None and value != -1}


def worker_memory(worker: Any) -> dict[str, Any]:
    """What a worker's profile run measured, in bytes (``v1/worker/gpu_worker.py``)."""
    runner = getattr(worker, "model_runner", None)
    return {
        "weights_bytes": getattr(runner, "model_memory_usage", None),
        "activation_peak_bytes": getattr(worker, "peak_activation_memory", None),
    }


def before_line(plan: Plan, figures: Figures) -> str:
    """The plan in one line."""
    words = [plan.verdict.replace("_", " ")]
    if figures["kv_cache_bytes"] is not None:
        band = figures["band_bytes"]
        told = f" ± {gib(band)}" if band else ""
        words.append(f"{gib(figures['kv_cache_bytes'])}{told} for the KV cache")
    if figures["gpu_blocks"] is not None:
        words.append(f"{figures['gpu_blocks']:,} blocks")
    if figures["max_concurrency"] is not None:
        length = f"{figures['max_model_len']:,}"
        words.append(f"{figures['max_concurrency']:.2f} requests of {length} tokens at once")
    return ", ".join([": ".join(words[:2]), *words[2:], *plan.limits[:1]])


def refusal_line(plan: Plan) -> str:
    """Why the engine is not started, and the smallest change with which it would."""
    words = [f"not started, {plan.verdict.replace('_', ' ')}", *plan.limits[:1]]
    if plan.changes:
        change = plan.changes[0]
        words.append(f"--{change.flag.replace('_', '-')} {change.value} would ({change.gains})")
    return ": ".join(words)


_PARTS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "kv_cache_bytes": ("KV memory", lambda value: gib(int(value))),
    "gpu_blocks": ("blocks", lambda value: f"{value:,}"),
    "max_concurrency": ("requests at once", lambda value: f"{value:.2f}"),
}


def after_line(predicted: Figures, actual: Figures) -> str:
    """Predicted, actual and the difference of each figure; the part that explains it."""
    words = []
    for key, (name, shown) in _PARTS.items():
        before, after = predicted.get(key), actual.get(key)
        if before is None or after is None:
            continue
        change = f"{(after - before) / before:+.2%}" if before and after != before else "as planned"
        words.append(f"{name} {shown(before)} predicted, {shown(after)} actual ({change})")
    return "; ".join([*words, *_explained(predicted, actual)]) or "nothing to compare"


def _explained(predicted: Figures, actual: Figures) -> list[str]:
    """The part of the memory that is furthest off, where the KV memory is off by more than 1 %."""
    before, after = predicted.get("kv_cache_bytes"), actual.get("kv_cache_bytes")
    if not before or after is None or abs(after - before) <= before / 100:
        return []
    band = predicted.get("band_bytes")
    inside = (
        []
        if band is None
        else ["inside the band" if abs(after - before) <= band else "outside the band"]
    )
    parts = {"weights": "weights_bytes", "activation peak": "activation_peak_bytes"}
    off = {
        name: actual[key] - predicted[key]
        for name, key in parts.items()
        if predicted.get(key) is not None and actual.get(key) is not None
    }
    if not off:
        return inside
    name = max(off, key=lambda each: abs(off[each]))
    sign = "+" if off[name] >= 0 else "-"
    return [*inside, f"furthest off: {name} {sign}{gib(abs(off[name]))}"]


def keep(name: str, figures: Figures) -> None:
    """Leave figures for the other processes of this engine; the first to write makes the folder."""
    folder = os.environ.get(STATE)
    if not folder:
        folder = tempfile.mkdtemp(prefix="vllm-kv-planner-")
        os.environ[STATE] = folder
        atexit.register(_remove, folder, os.getpid())
    beside = os.path.join(folder, f".{name}.{os.getpid()}")
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(figures, file)
    os.replace(beside, os.path.join(folder, name))


def kept(name: str) -> dict[str, Any] | None:
    """What another process left; None where nothing is there."""
    folder = os.environ.get(STATE)
    if not folder:
        return None
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        warn(f"{name}: {error}")
        return None
    return found


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # not a forked child
        shutil.rmtree(folder, ignore_errors=True)
