"""The profile's first phase: compiling measures the embedding's lookup on a table of its own.

vLLM switches Inductor's ``combo_kernels`` and ``benchmark_combo_kernel`` on. Inductor then runs
candidates on random tensors of their arguments' sizes, and among them is the lookup of the
embedding: for a moment a second table lies beside the model's, and what the kernel writes. On GPUs
that sample few requests nothing else in the profile is as large. PyTorch 2.14 (vLLM 0.33) leaves
lookups out. A start that finds its compiled model in the cache compiles nothing and takes less.

Seen in starts of 0.19 (Llama 3.1 8B's first pipeline stage: 1.10 GiB, as derived here) and 0.29
(Qwen3-8B-FP8 on a 16 GB slice: 1.14 GiB, 1.19 here, of which cuBLAS's workspace and the sampler's
scratch stay); not at 0.17.1, where the same sizes would show.

Source: vLLM 0.19 and 0.33 ``config/compilation.py``; ``torch/_inductor/scheduler.py``
``speedup_by_combo_kernel`` and ``codegen/triton.py`` ``get_args`` of PyTorch 2.13 and 2.14.
"""

from __future__ import annotations

from .phase import Phase, parts
from .rank import Rank


def compilation_phase(rank: Rank) -> Phase | None:
    """The measuring of the embedding's kernel; None where this engine does not."""
    table = benchmarked_table(rank)
    if not table:
        return None
    rows = rank.tokens * rank.hidden * rank.element
    # with several GPUs the norm waits for the others' rows
    return Phase(
        "compilation",
        parts(embedding_table=table, embedded=rows, normed=rows if rank.tp == 1 else 0),
    )


def benchmarked_table(rank: Rank) -> int:
    """Bytes of the second table; 0 where none is made."""
    setup, args = rank.setup, rank.setup.args
    embeds_inside = not setup.model.is_multimodal or args.language_model_only
    if not (rank.rules.measures_lookups and rank.is_first and embeds_inside and _compiles(rank)):
        return 0
    return rank.padded_vocab // rank.tp * rank.hidden * rank.element


def _compiles(rank: Rank) -> bool:
    """By Inductor, with measured combinations of kernels."""
    args = rank.setup.args
    config = args.compilation_config
    mode = config.get("mode", config.get("level"))
    if args.enforce_eager or args.optimization_level == "0" or mode in (0, "NONE", "0"):
        return False
    inductor = config.get("inductor_compile_config")
    asked = inductor.get("benchmark_combo_kernel", True) if isinstance(inductor, dict) else True
    return bool(asked) and config.get("backend", "inductor") in ("", "inductor")
