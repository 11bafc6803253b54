"""Records of real engines as cases the planner can be asked about, or the reason why it cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vllm_kv_planner.cli.planner_flags import command_parser, request_for
from vllm_kv_planner.config.find import FoundConfig, find_config
from vllm_kv_planner.engine_args.arguments import prepare_arguments
from vllm_kv_planner.engine_args.engine_args import EngineArgs, EngineEnvironment
from vllm_kv_planner.engine_args.flags import engine_args_from
from vllm_kv_planner.engine_args.setup import EngineSetup, described, resolve_setup
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.gpu.catalogue import all_gpus, find_gpu
from vllm_kv_planner.gpu.gpu import GPU
from vllm_kv_planner.memory.versions import version_rules
from vllm_kv_planner.planning.request import UNKNOWN_MACHINE, Machine
from vllm_kv_planner.planning.standalone import StandalonePlan
from vllm_kv_planner.planning.versions import as_built

ROOT = Path(__file__).resolve().parent
FOLDER = ROOT.parents[1] / "shared" / "ground_truth"
SWEEP = "h100_v0.19_sweep.jsonl"
FILES = (SWEEP, "startup_logs.jsonl", "startup_logs_2.jsonl", "startup_logs_3.jsonl")
CONFIGS = "startup_configs_3.jsonl"
GIB = 1 << 30

Record = Mapping[str, Any]

# fields of a record that are flags of the engine, by the flag's name
_FLAGS = {
    "max_model_len": "max_model_len",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "kv_cache_dtype": "kv_cache_dtype",
    "block_size": "block_size",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "enforce_eager": "enforce_eager",
    "enable_prefix_caching": "enable_prefix_caching",
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "ep": "enable_expert_parallel",
}
_OTHER = (
    *("limit_mm_per_prompt", "language_model_only", "enable_chunked_prefill"),
    *("enable_prefix_caching", "cpu_offload_gb"),
)
_SEVERAL_SIZES = ("A100", "V100", "H20", "GH200")
_ODD = ("fork", "patched", "windows", "infernal", "nightly", "rocm", "0.1.dev")
_CLEAN_ATTENTION = re.compile(r"[A-Z][A-Z0-9_]+")


@dataclass(frozen=True)
class Case:
    """A record the planner can be asked about; ``machine``: its free memory, where known."""

    file: str
    record: Record
    setup: EngineSetup
    version: str
    machine: Machine = UNKNOWN_MACHINE

    @property
    def family(self) -> str:
        """Sweep or logs."""
        return "H100 sweep" if self.file == SWEEP else "logs"


@dataclass(frozen=True)
class Left:
    """A record it cannot be asked about, and why."""

    record: Record
    why: str


def all_records() -> Iterator[tuple[str, Record]]:
    """Every record with the name of its file."""
    for name in FILES:
        path = FOLDER / name
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    yield name, json.loads(line)


def as_case(file: str, record: Record) -> Case | Left:
    """The record as a case, or the reason why not."""
    if file == "startup_logs_3.jsonl":
        return asked_case(file, record)
    why = unusable(record)
    if why is not None:
        return Left(record, why)
    version = record["vllm_version"]
    try:
        return Case(file, record, record_setup(record, version), version)
    except PlannerError as error:
        return Left(record, str(error).splitlines()[0])


def asked_case(file: str, record: Record) -> Case | Left:
    """A record that says itself which flags to plan with, as ``plan`` would read them."""
    asked = record.get("asked")
    if asked is None:
        return Left(record, record.get("notes") or "its flags are not known")
    try:
        words = ["--gpu", asked["gpu"], "--vllm-version", asked["vllm_version"], *asked["flags"]]
        given = command_parser("plan").parse_args(
            prepare_arguments([asked["model"], *words, "--no-calibration"])
        )
        model = asked["model"]
        found = (
            FoundConfig(model, asked_configs()[model], "custom")
            if asked["needs_config"]
            else find_config(model)
        )
        args = engine_args_from(given, model=found.id)
        request = request_for(given, args, found, EngineEnvironment(), [])
        made = StandalonePlan(request)
        return Case(file, record, made.setup, made.version, request.machine)
    except PlannerError as error:
        return Left(record, str(error).splitlines()[0])


@lru_cache(maxsize=1)
def asked_configs() -> dict[str, Any]:
    """Configs of models that the planner does not know, by id."""
    lines = (FOLDER / CONFIGS).read_text(encoding="utf-8").splitlines()
    return {row["hf_id"]: row["config"] for row in map(json.loads, lines)}


def unusable(record: Record) -> str | None:
    """Why a record says too little, or speaks of another vLLM."""
    version = record.get("vllm_version") or ""
    reasons = (
        (not version, "vLLM's version is not stated"),
        (any(word in version.lower() for word in _ODD), f"a build of its own ({version})"),
        (not record.get("gpu"), "the GPU is not stated"),
        ("shared machine" in (record.get("notes") or ""), "a shared GPU, its free memory unknown"),
        (
            bool(record.get("speculative")) and record_drafts(record) is None,
            "speculative decoding, its method or its tokens not stated",
        ),
    )
    return next((why for found, why in reasons if found), None)


def record_setup(record: Record, version: str) -> EngineSetup:
    """The engine of a record. Raises PlannerError where the planner cannot express it."""
    rules = version_rules(version)
    found = record_model(record["model"])
    flags = record_flags(record)
    flags.setdefault("gpu_memory_utilization", rules.default_gpu_memory_utilization)
    args = EngineArgs(model=found.id, **flags)
    model = as_built(described(found, args), rules)
    if model.is_hybrid and not rules.hybrids_cache_prefixes:
        flags.setdefault("enable_prefix_caching", False)
        args = EngineArgs(model=found.id, **flags)
    return resolve_setup(args, model, record_gpu(record), record_environment(record))


def record_gpu(record: Record) -> GPU:
    """The device, with the total the record states; of several sizes the one that held it."""
    name = re.sub(r"\s*\(.*\)|DGX Spark |,.*", "", record["gpu"]).strip()
    gpu = find_gpu(name)
    stated = record.get("gpu_total_gib")
    if stated:
        return replace_total(gpu, int(stated * GIB))
    share = record.get("gpu_memory_utilization") or 0.92
    kv = record.get("available_kv_gib") or 0
    needed = ((record.get("model_load_gib") or 0) + kv) * GIB
    family = gpu.short_name.split("-")[0]
    if kv <= 0 or family not in _SEVERAL_SIZES or gpu.total_memory_bytes * share >= needed:
        return gpu
    larger = [
        other
        for other in all_gpus()
        if other.short_name.startswith(f"{family}-") and other.total_memory_bytes * share >= needed
    ]
    return min(larger, key=lambda other: other.total_memory_bytes, default=gpu)


def replace_total(gpu: GPU, total: int) -> GPU:
    """The device with another total, as this one printed it."""
    return replace(gpu, torch_total_bytes=total)


def record_drafts(record: Record) -> dict[str, Any] | None:
    """``--speculative-config`` of a record: as given, else as its log printed it."""
    given = record_others(record).get("speculative_config")
    if isinstance(given, dict):
        return given
    printed = str(record.get("speculative") or "")
    method = re.search(r"method='(\w+)'", printed)
    tokens = re.search(r"num_spec(?:ulative)?_tokens=(\d+)", printed)
    if method is None or tokens is None:
        return None
    return {"method": method[1], "num_speculative_tokens": int(tokens[1])}


def record_others(record: Record) -> dict[str, Any]:
    """The other arguments that the engine printed, where they are a JSON object."""
    try:
        others = json.loads(record.get("other_args") or "{}")
    except ValueError:
        return {}
    return others if isinstance(others, dict) else {}


def record_flags(record: Record) -> dict[str, Any]:
    """The engine's flags as far as the record states them."""
    flags = {flag: record[key] for key, flag in _FLAGS.items() if record.get(key) is not None}
    flags["kv_cache_dtype"] = str(flags.get("kv_cache_dtype", "auto")).split()[0]
    if record.get("dtype"):
        flags["dtype"] = record["dtype"]
    if record.get("quantization") in ("fp8", "mxfp4") and "FP8" not in record["model"]:
        flags["quantization"] = "fp8" if record["quantization"] == "fp8" else None
    backend = record.get("attention_backend") or ""
    if _CLEAN_ATTENTION.fullmatch(backend) and backend != "XFORMERS":
        flags["attention_backend"] = backend
    other = record_others(record)
    flags.update({name: other[name] for name in _OTHER if name in other})
    if record.get("speculative"):
        flags["speculative_config"] = record_drafts(record)
    return {name: value for name, value in flags.items() if value is not None}


def record_environment(record: Record) -> EngineEnvironment:
    """The runner, where the record says which one ran."""
    runner = record.get("model_runner")
    return EngineEnvironment(use_v2_model_runner=None if runner is None else runner == "V2")


def likes() -> Mapping[str, Any]:
    """Models shaped like one that the planner knows."""
    found = json.loads((ROOT / "model_likes.json").read_text(encoding="utf-8"))
    models: Mapping[str, Any] = found["models"]
    return models


def is_stand_in(name: str) -> bool:
    """Whether the model is quantised in a way that its stand-in is not."""
    return bool(likes().get(name, {}).get("quantized"))


def record_model(name: str) -> FoundConfig:
    """The model's config: as the planner knows it, or shaped like one it knows."""
    like = likes().get(name)
    if like is None and name in asked_configs():
        return FoundConfig(name, asked_configs()[name], "custom")
    if like is None:
        return find_config(name)
    config: dict[str, Any] = {}
    if "like" in like:
        config.update(find_config(like["like"]).config)
    config.update(like.get("config", {}))
    config = {key: value for key, value in config.items() if value is not None}
    return FoundConfig(id=name, config=config, source="custom")
