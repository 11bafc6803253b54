"""Plans for people and programs: each figure with what it means in vLLM's words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ..engine_args.flag_table import flag_text
from ..records import dataclass
from ..report import Answer
from ..report.document import Document, Figures, Lines, Section, Table, flat_table, noted
from ..units import gib
from .headroom import headroom_text
from .types import BORDERLINE, FITS, ChangeInfo, GroupInfo, MemoryInfo, Plan

Row = tuple[str, str, str]
"""Label, value, meaning."""

KINDS = {
    "full_attention": "full attention",
    "mla_attention": "MLA latent",
    "sliding_window": "sliding window",
    "sliding_window_mla": "sliding window MLA",
    "chunked_local_attention": "chunked local attention",
    "cross_attention": "cross-attention",
    "circular_buffer": "circular buffer",
    "mamba": "state (Mamba, linear attention)",
}
PARTS = {
    "weights": "weights_bytes",
    "activation peak": "activation_peak_bytes",
    "CUDA graphs": "cuda_graph_bytes",
    "outside PyTorch": "non_torch_bytes",
}


@dataclass(frozen=True)
class Plans(Answer):
    """Plans, one below the other; several are a JSON array, or CSV rows under one header."""

    plans: tuple[Plan, ...]

    def table(self) -> Table:
        """A row a plan; provenance, host and headroom, whose keys differ, are one cell each."""
        return flat_table([plan_cells(plan) for plan in self.plans])

    def documents(self) -> Sequence[Document]:
        """One a plan."""
        return [plan_document(plan) for plan in self.plans]

    def to_json(self) -> str:
        """The contract other programs build on."""
        objects = [plan.to_dict() for plan in self.plans]
        return json.dumps(objects[0] if len(objects) == 1 else objects, indent=2, allow_nan=False)


def plan_cells(plan: Plan) -> dict[str, Any]:
    """The plan as a dictionary that has the same keys for every plan."""
    plain = plan.to_dict()
    plain["memory"]["provenance"] = json.dumps(plain["memory"]["provenance"])
    for name in ("host", "headroom"):
        plain[name] = plain[name] and json.dumps(plain[name])
    return plain


def plan_document(plan: Plan) -> Document:
    """The plan's rows under their titles, the verdict, what would make it fit, and notes."""
    shade = {FITS: "green", BORDERLINE: "yellow"}.get(plan.verdict, "red")
    why = "leaves the host enough" if plan.fits else "makes it fit"
    remarks = (*(f"{why}: {change_text(each)}" for each in plan.changes), *noted(plan.notes))
    return Document(
        title=f"KV cache of {plan.model.id} on {plan.gpu.name}",
        sections=(
            Section("Engine", (Figures(tuple(engine_rows(plan))),)),
            Section("KV cache of one GPU", (Figures(tuple(cache_rows(plan))),)),
            Section(plan.verdict.replace("_", " "), (Lines(remarks),), shade),
        ),
    )


def engine_rows(plan: Plan) -> Iterator[Row]:
    """What is planned, with where each choice comes from."""
    engine, model, gpu = plan.engine, plan.model, plan.gpu
    source = f"config: {model.config_source}" + (
        f", revision {model.revision}" if model.revision else ""
    )
    yield "Model", model.id, f"{model.architecture}, {model.num_layers} layers, {source}"
    yield "Planner", plan.planner.name, f"rules of vLLM {plan.planner.vllm_version}"
    ranks = [
        f"{name} {size}"
        for name, size in (
            ("TP", engine.tensor_parallel_size),
            ("PP", engine.pipeline_parallel_size),
            ("DP", engine.data_parallel_size),
            ("DCP", engine.decode_context_parallel_size),
        )
        if size > 1
    ]
    yield "GPU", f"{gpu.num_gpus} x {gpu.name}", ", ".join(ranks)
    yield "dtype", engine.dtype, f"kv_cache_dtype {engine.kv_cache_dtype}"
    yield "max_model_len", f"{engine.max_model_len:,}", "tokens of prompt and answer, one request"
    yield "max_num_seqs", f"{engine.max_num_seqs:,}", "requests the scheduler runs at once, at most"
    yield "max_num_batched_tokens", f"{engine.max_num_batched_tokens:,}", "tokens of one step"
    caching = "on" if engine.enable_prefix_caching else "off"
    yield "prefix caching", caching, f"attention backend {engine.attention_backend or 'none'}"


def cache_rows(plan: Plan) -> Iterator[Row]:
    """Bytes, blocks and what they hold."""
    cache, memory = plan.kv_cache, plan.memory
    yield from memory_rows(plan)
    if plan.headroom is not None:
        left = plan.headroom.left_bytes
        yield "Left on the GPU", gib(left).partition(" (")[0], headroom_text(plan.headroom)
    if memory.requested_bytes is None:
        provenance = memory.provenance.get("available_kv_cache_bytes", "")
        size = memory.available_kv_cache_bytes
        yield "Available KV cache memory", "not known" if size is None else gib(size), provenance
    if not cache.groups:
        yield "KV cache", "none", "the model keeps nothing between steps"
        return
    yield "Bytes per token", f"{cache.bytes_per_token:,}", "one more token of context"
    yield "Bytes per block", f"{cache.bytes_per_block:,}", f"block size {plan.engine.block_size}"
    for number, group in enumerate(cache.groups):
        yield f"  group {number}", group_summary(group), f"{group.blocks_per_request:,} a request"
    if cache.num_gpu_blocks is None or cache.max_concurrency is None:
        return
    yield "GPU blocks", f"{cache.num_gpu_blocks:,}", "num_gpu_blocks"
    if cache.max_concurrency >= 1:
        tokens = f"{cache.kv_cache_size_tokens:,} tokens"
        yield "GPU KV cache size", tokens, "maximum concurrency x max_model_len"
        yield (
            "Maximum concurrency",
            f"{cache.max_concurrency:.2f}x",
            f"requests of {plan.engine.max_model_len:,} tokens at once",
        )
    longest = f"{cache.max_model_len_that_fits:,}"
    yield "Longest context that fits", longest, "largest max_model_len for this memory"


def memory_rows(plan: Plan) -> Iterator[Row]:
    """The budget of the tightest rank, part by part; nothing where it was not predicted."""
    memory = plan.memory
    if memory.requested_bytes is None:
        if memory.weights_bytes is not None and memory.activation_peak_bytes is not None:
            yield "Beside the KV cache", "", ""
            yield from part_rows(memory)
        return
    utilization = f"{plan.engine.gpu_memory_utilization} of the GPU's memory"
    yield "Requested memory", gib(memory.requested_bytes), utilization
    yield from part_rows(memory)
    band = "" if not memory.uncertainty_bytes else f"give or take {gib(memory.uncertainty_bytes)}"
    yield "Available KV cache memory", gib(memory.available_kv_cache_bytes or 0), band


def part_rows(memory: MemoryInfo) -> Iterator[Row]:
    """Weights and the rest, as far as they are known."""
    for label, name in PARTS.items():
        size = getattr(memory, name)
        if size is not None:
            how = memory.provenance.get(name, "").partition(";")[0]
            yield f"  {label}", gib(size).partition(" (")[0], how  # no estimate knows its MiB


def group_summary(group: GroupInfo) -> str:
    """``26 x sliding window, block 16``."""
    kind = KINDS.get(group.kind, group.kind)
    return f"{group.num_layers} x {kind}, block {group.block_size:,}"


def change_text(change: ChangeInfo) -> str:
    """The flag as it stands on the command line, and what it gains."""
    is_gpu = change.flag == "gpu"
    flag = f"--gpu {change.value}" if is_gpu else flag_text(change.flag, change.value)
    return f"{flag} ({change.gains})"
