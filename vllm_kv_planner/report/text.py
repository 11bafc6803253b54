"""The plan for people: aligned lines, each figure with what it means in vLLM's words."""

from __future__ import annotations

from collections.abc import Iterator

from ..planning.types import BORDERLINE, FITS, ChangeInfo, GroupInfo, MemoryInfo, Plan
from ..units import gib
from .printable import printable_plan
from .terminal import paint

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


def to_text(plan: Plan, *, colour: bool = False) -> str:
    """Sections of aligned rows; no final newline.

    Args:
        plan: What to show.
        colour: Whether the reader is a terminal.
    """
    plan = printable_plan(plan)
    parts = sections(plan)
    rows = [row for _, part in parts for row in part]
    label_width = max(len(label) for label, _, _ in rows)
    value_width = max(len(value) for _, value, meaning in rows if meaning)
    lines = []
    for title, part in parts:
        lines.append(paint(title, "bold", colour=colour))
        for label, value, meaning in part:
            padded = f"  {label:<{label_width}}  {value:<{value_width if meaning else 0}}"
            lines.append(f"{padded}  {paint(meaning, 'dim', colour=colour)}" if meaning else padded)
        lines.append("")
    lines.append(verdict(plan, colour=colour))
    lines += changes(plan)
    lines += [f"note: {note}" for note in plan.notes]
    return "\n".join(lines)


def sections(plan: Plan) -> list[tuple[str, list[Row]]]:
    """The plan's rows under their titles."""
    return [
        ("Engine", list(engine_rows(plan))),
        ("KV cache of one GPU", list(cache_rows(plan))),
    ]


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


PARTS = {
    "weights": "weights_bytes",
    "activation peak": "activation_peak_bytes",
    "CUDA graphs": "cuda_graph_bytes",
    "outside PyTorch": "non_torch_bytes",
}


def group_summary(group: GroupInfo) -> str:
    """``26 x sliding window, block 16``."""
    kind = KINDS.get(group.kind, group.kind)
    return f"{group.num_layers} x {kind}, block {group.block_size:,}"


def verdict(plan: Plan, *, colour: bool) -> str:
    """One line: does the engine start?"""
    word = plan.verdict.replace("_", " ")
    shade = {FITS: "green", BORDERLINE: "yellow"}.get(plan.verdict, "red")
    return paint(word, shade, colour=colour)


def changes(plan: Plan) -> Iterator[str]:
    """What would make it fit, as it stands on the command line."""
    why = "leaves the host enough" if plan.fits else "makes it fit"
    yield from (f"{why}: {change_text(each)}" for each in plan.changes)


def change_text(change: ChangeInfo) -> str:
    """The flag as it stands on the command line, and what it gains."""
    from ..capacity.fit.serve_line import flag_text

    is_gpu = change.flag == "gpu"
    flag = f"--gpu {change.value}" if is_gpu else flag_text(change.flag, change.value)
    return f"{flag} ({change.gains})"
