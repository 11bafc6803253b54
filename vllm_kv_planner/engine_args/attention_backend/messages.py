"""One clear line for a layer that no attention backend serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .facts import Situation


def unknown_backend(name: str, known: Iterable[str]) -> str:
    """Nobody knows this ``--attention-backend``."""
    from difflib import get_close_matches

    names = sorted(name for name in known if not name.startswith(("CPU_", "AMX_")))
    near = get_close_matches(name.upper(), names, n=3, cutoff=0.5) or names
    return f"--attention-backend {name}: not a CUDA backend of vLLM 0.33; try {', '.join(near)}"


def not_valid(name: str, situation: Situation, reasons: Sequence[str]) -> str:
    """The backend that was asked for, by the user or the model's config, turns the layer down."""
    return (
        f"attention backend {name}, asked for by --attention-backend or by the model, cannot run "
        f"{describe(situation)}: {'; '.join(reasons)}"
    )


def none_valid(situation: Situation, against: Mapping[str, Sequence[str]]) -> str:
    """Every backend turns the layer down: what all of them lack, or the nearest misses."""
    shared = [
        reason
        for reason in next(iter(against.values()))
        if all(reason in reasons for reasons in against.values())
    ]
    if shared:
        why = "; ".join(shared)
    else:
        fewest = min(len(reasons) for reasons in against.values())
        nearest: dict[str, list[str]] = {}
        for name, reasons in against.items():
            if len(reasons) == fewest:
                nearest.setdefault(", ".join(reasons), []).append(name)
        why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in nearest.items())
    return f"no attention backend of vLLM 0.33 runs {describe(situation)}: {why}"


def describe(situation: Situation) -> str:
    """The layer and the device, as far as backends care."""
    request, (major, minor) = situation.request, situation.capability
    needs = [f"head_size {request.head_size}", f"dtype {request.dtype}"]
    needs.append(f"kv_cache_dtype {request.kv_cache_dtype}")
    if situation.block_size is not None:
        needs.append(f"block_size {situation.block_size}")
    wanted = (
        (request.use_sparse, "sparse MLA"),
        (request.use_mla and not request.use_sparse, "MLA"),
        (request.has_sink, "attention sinks"),
        (request.use_mm_prefix, "bidirectional image tokens"),
        (request.has_sliding_window, "a sliding window"),
        (request.attn_type != "decoder", f"{request.attn_type} attention"),
        (situation.facts.decode_context_parallel_size > 1, "decode context parallel"),
    )
    needs.extend(what for needed, what in wanted if needed)
    return f"a layer with {', '.join(needs)} on compute capability {major}.{minor}"
