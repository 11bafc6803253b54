"""The profile's forward pass at ``max_num_batched_tokens``: one decoder layer at its worst.

Attention itself is skipped (the profile has no metadata), so the linear layers decide. Compiled,
a piece of the graph runs from one attention to the next; its inputs (attention output, residual)
live until it returns, and so does the output projection that the second norm and the second
residual both read. The worst moment of a plain layer is the activation function: gate and up
projection in, its product out, three tensors of the stream's width beside them. Uncompiled, the
residual is added in place, and whoever called the layer holds its input while it runs; that was
held against vLLM's own runner (``benchmarks/memory_parity.py``). Only one layer lives at a time.

Source: vLLM 0.19 and 0.33 ``compilation/backends.py`` (``split_graph``), ``models/llama.py``,
``model_executor/layers/activation.py``, ``layers/attention/mla_attention.py`` (the buffer that
profiling allocates in place of the up-projected context), ``_dummy_run`` of both runners.
"""

from __future__ import annotations

from .experts import expert_workspace, transient_expert_bytes
from .phase import Parts, Phase, parts
from .rank import Rank
from .sparse import indexer_logits, sparse_workspace
from .widths import LatentShapes

_CONTEXT_TOKENS = 64 * 1024
_SHARE_UNSURE = 0.15
_SHARE_GUESS = 0.5
_SHARE_EARLY_STAGE = 0.15
"""The one record of an earlier pipeline stage took 0.23 GiB more than is explained here."""


def forward_phase(rank: Rank, held: Parts) -> Phase:
    """The decoder at its worst moment; ``held`` lives on from the encoder."""
    shapes = rank.shapes
    fixed = parts(workspace=max(expert_workspace(rank), sparse_workspace(rank)))
    candidates = [_attention(rank)]
    if shapes.has_dense_layers:
        candidates.append(_mlp(rank))
    if shapes.experts is not None:
        candidates.append(_experts(rank))
    if shapes.latent is not None:
        candidates.append(_latent(rank, shapes.latent))
    if logits := indexer_logits(rank):
        hidden = _width(rank, rank.hidden)
        candidates.append(parts(residual=hidden, normed=hidden, indexer_logits=logits))
    if shapes.mixer_in:
        candidates.append(_mixer(rank))
    worst = max(candidates, key=lambda live: sum(size for _, size in live))
    unsure = _SHARE_GUESS if shapes.is_guess else _SHARE_UNSURE
    if not rank.is_last:
        unsure += _SHARE_EARLY_STAGE
    size = sum(size for _, size in (*fixed, *worst))
    return Phase("forward", (*held, *fixed, *worst), int(unsure * size))


def _width(rank: Rank, width: int) -> int:
    return rank.tokens * width * rank.element


def _stream(rank: Rank) -> Parts:
    """What lives beside the widest tensors of a layer."""
    hidden = _width(rank, rank.hidden)
    if rank.setup.args.enforce_eager:
        return parts(residual=hidden, layer_input=hidden)
    attention = _width(rank, rank.shapes.query or rank.shapes.mixer_out or rank.hidden)
    return parts(attention_output=attention, residual=hidden, output_projection=hidden)


_LETS_GO = frozenset(
    {
        *("llama", "llama4", "llama4_text", "mistral", "ministral", "ministral3", "phi3"),
        *("falcon_h1", "bailing_moe", "hyperclovax", "jamba", "afmoe", "glm4", "nemotron-nas"),
    }
)
"""Model types whose layers give up gate and up once their product is there; others hold them while
the last matrix runs. Source: ``models/llama.py`` ``LlamaMLP``, which others share or copy."""


def _mlp(rank: Rank) -> Parts:
    shapes, text = rank.shapes, rank.setup.model.text_config
    eager = rank.setup.args.enforce_eager
    hidden = _width(rank, rank.hidden)
    slices = 2 if shapes.mlp_up > shapes.mlp_down_in else 1
    holds = eager and slices == 2 and text.get("model_type") not in _LETS_GO
    return (
        *_stream(rank),
        *parts(
            normed=hidden if eager else 0,
            output_projection=hidden if holds else 0,
            gate_and_up=_width(rank, shapes.mlp_up),
            # while gate and up are computed, their input and an adapter's buffer live instead
            activated=max(
                _width(rank, shapes.mlp_down_in),
                hidden + linear_bytes(rank, slices),
            ),
        ),
    )


def _attention(rank: Rank) -> Parts:
    shapes = rank.shapes
    hidden = _width(rank, rank.hidden)
    return parts(
        residual=hidden,
        normed=hidden,
        qkv=_width(rank, shapes.projected),
        rotated=_width(rank, shapes.query + shapes.key_value // 2),
        attention_output=_width(rank, shapes.query),
        output_projection=hidden if rank.setup.args.enforce_eager else 0,
    )


def _experts(rank: Rank) -> Parts:
    experts = rank.shapes.experts
    assert experts is not None
    hidden = _width(rank, rank.hidden)
    shared = _width(rank, experts.shared_up + experts.shared_down_in)
    return (
        *_stream(rank),
        *parts(
            normed=hidden,
            experts_output=hidden,
            router_logits=rank.tokens * experts.count * 4,
            shared_experts=shared + (hidden if shared else 0),
            expert_kernel=transient_expert_bytes(rank),
        ),
    )


def _latent(rank: Rank, latent: LatentShapes) -> Parts:
    """MLA: queries, and room for the keys and values of a chunk of context."""
    hidden = _width(rank, rank.hidden)
    batch, length = rank.setup.resolved.batch, rank.setup.resolved.length.max_model_len
    wanted = max(8 * length, 4 * batch.max_num_seqs * rank.setup.context.block_size)
    context = max(min(wanted, _CONTEXT_TOKENS), batch.max_num_seqs * rank.setup.context.block_size)
    return parts(
        residual=hidden,
        normed=hidden,
        queries=_width(rank, latent.heads * (latent.qk_nope + latent.qk_rope)),
        latent=2 * _width(rank, latent.latent + latent.qk_rope),
        attention_output=_width(rank, latent.heads * latent.value),
        context=context * latent.heads * (latent.qk_nope + latent.value) * rank.element,
    )


def _mixer(rank: Rank) -> Parts:
    """State-space or linear attention: the input projection, its split copies, the output."""
    shapes = rank.shapes
    hidden = _width(rank, rank.hidden)
    eager = rank.setup.args.enforce_eager  # splits by views
    return parts(
        residual=hidden,
        normed=hidden,
        input_projection=_width(rank, shapes.mixer_in),
        split=0 if eager else _width(rank, shapes.mixer_in - shapes.mixer_out),
        mixer_output=2 * _width(rank, shapes.mixer_out),
        output_projection=hidden if eager else 0,
    )


def linear_bytes(rank: Rank, slices: int) -> int:
    """Bytes of what a layer of so many merged matrices computes for LoRA; 0 without it.

    The narrow product of every slice, in float32, gone when the layer returns.
    ``--fully-sharded-loras`` gathers it: each rank's share, and the whole of it twice (gathered,
    then put in order). Source: vLLM 0.33 ``lora/punica_wrapper/punica_gpu.py``,
    ``lora/layers/column_parallel_linear.py`` ``_mcp_apply``.
    """
    args = rank.setup.args
    if not args.enable_lora:
        return 0
    width = args.max_lora_rank
    if args.fully_sharded_loras and rank.tp > 1:
        width = args.max_lora_rank // rank.tp + 2 * args.max_lora_rank
    return slices * rank.tokens * width * 4


def compilation_phase(rank: Rank) -> Phase | None:
    """Compiling measures the embedding's lookup on a table of its own; None where it does not.

    vLLM switches Inductor's ``combo_kernels`` and ``benchmark_combo_kernel`` on. Inductor then
    runs candidates on random tensors of their arguments' sizes, the lookup among them: for a
    moment a second table lies beside the model's, and what the kernel writes. On GPUs that sample
    few requests nothing else in the profile is as large. PyTorch 2.14 (vLLM 0.33) leaves lookups
    out. A start that finds its compiled model in the cache compiles nothing.

    Seen in starts of 0.19 (Llama 3.1 8B's first pipeline stage: 1.10 GiB, as derived here) and
    0.29 (Qwen3-8B-FP8 on a 16 GB slice: 1.14 GiB, 1.19 here, of which cuBLAS's workspace and the
    sampler's scratch stay); not at 0.17.1, where the same sizes would show. Source: vLLM 0.19 and
    0.33 ``config/compilation.py``; ``torch/_inductor/scheduler.py`` ``speedup_by_combo_kernel``
    and ``codegen/triton.py`` ``get_args`` of PyTorch 2.13 and 2.14.
    """
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
