"""The activation peak of one rank: the worst of the profile run's phases.

Encoder, forward pass and sampler run one after the other; what one leaves behind (encoder
outputs, kernels' workspaces, cuBLAS's workspace) is there in the next. The peak is the largest
sum of what lives at once, as PyTorch's allocator counts it.
"""

from __future__ import annotations

from ..errors import printable
from ..records import dataclass
from .encoder import encoder_profile
from .experts import eplb_buffers, eplb_phases, expert_workspace
from .forward import compilation_phase, forward_phase
from .overheads import Overheads
from .phase import Parts, Phase, parts
from .rank import Rank
from .sampler import (
    draft_buffers,
    draft_phases,
    inner_states,
    lean_sampler,
    rejection_phase,
    sampler_phase,
    sampling_beyond_profile,
)
from .sparse import sparse_workspace


@dataclass(frozen=True)
class ActivationPeak:
    """The profile's peak above the weights, on one rank.

    Attributes:
        phases: Every phase of the profile run on this rank.
        peak: The one that decides.
        peak_bytes: Its size, as PyTorch's allocator counts it.
        least_bytes: The peak of the leanest start there is: from 0.19 to 0.32 one that finds its
            compiled model in vLLM's cache; before 0.12 one of an image with FlashInfer installed.
        beyond_bytes: What steps of the started engine take beyond ``least_bytes``: its warm-up.
        uncertainty_bytes: How far off the peak may be.
        how: The sentence that explains it.
    """

    phases: tuple[Phase, ...]
    peak: Phase
    peak_bytes: int
    least_bytes: int
    uncertainty_bytes: int
    how: str
    beyond_bytes: int = 0


def seen_activation(rank: Rank, overheads: Overheads) -> ActivationPeak | None:
    """The peak that a start of this very engine printed; None where none was seen."""
    engine = engine_of(rank)
    seen = next((each for each in overheads.activation if each.engine == engine), None)
    if seen is None:
        return None
    phase = Phase("seen", parts(activation=seen.size_bytes))
    size = seen.size_bytes
    return ActivationPeak((phase,), phase, size, size, seen.spread_bytes, seen.source)


def engine_of(rank: Rank) -> str:
    """What the peak of a single stage depends on, as one text."""
    setup, args = rank.setup, rank.setup.args
    drafts = setup.resolved.speculative
    named = {
        "device": setup.gpu.short_name,
        "vllm": rank.rules.name,
        "model": args.model,
        "dtype": setup.resolved.dtype.name,
        "quantization": setup.facts.quantization,
        "ranks": (rank.tp, args.pipeline_parallel_size, args.enable_expert_parallel),
        "tokens": rank.tokens,
        "rows": rank.rows,
        "eager": args.enforce_eager,
        "backends": ",".join(setup.cache.backends),
        "images": (args.language_model_only, sorted(map(str, args.limit_mm_per_prompt.items()))),
        "lora": args.enable_lora,
        "draft": drafts is not None
        and (drafts.method, drafts.model, drafts.num_speculative_tokens),
    }
    return bounded(" ".join(f"{name}={value}" for name, value in named.items()))


def bounded(key: str) -> str:
    """A key that a file can hold: printable, and of a long one the beginning and a digest."""
    key = printable(key)
    if len(key) <= 1000:
        return key
    from hashlib import sha256

    return f"{key[:900]} {sha256(key.encode()).hexdigest()}"


def activation_peak(rank: Rank) -> ActivationPeak:
    """The peak of one rank's profile run."""
    encoder = encoder_profile(rank)
    held = parts(
        blas_workspace=rank.blas_workspace,
        intermediate_tensors=0 if rank.uses_v2 else rank.intermediate_tensors,
    )
    phases: list[Phase] = []
    unsure = 0
    generates = rank.is_last and rank.setup.model.runner_type == "generate"
    if encoder is not None:
        phases.append(
            Phase("encoder", (*held, *encoder.phase.parts), encoder.phase.uncertainty_bytes)
        )
        held = (*held, *encoder.held)
        unsure = encoder.uncertainty_bytes
    if compiling := compilation_phase(rank):
        phases.append(compiling)
    phases.append(forward_phase(rank, (*held, *inner_states(rank))))
    phases += eplb_phases(rank, held)
    if generates:
        kept = rank.rules.keeps_expert_workspaces
        size = max(expert_workspace(rank), sparse_workspace(rank))
        workspace = parts(workspace=size if kept else 0)
        phases += draft_phases(rank, held, workspace)
        held = (*held, *workspace)
        phases.append(sampler_phase(rank, held))
        if rejection := rejection_phase(rank, held):
            phases.append(rejection)
    limited = rank.rules.split_limited
    sizes = [phase.total_bytes(split_limited=limited) for phase in phases]
    peak_bytes = max(sizes)
    peak = phases[sizes.index(peak_bytes)]
    leaner = [lean_sampler(rank, phase) for phase in phases if phase is not compiling]
    least_bytes = max(phase.total_bytes(split_limited=limited) for phase in leaner)
    beyond = 0
    if generates:
        beyond = sampling_beyond_profile(rank, held, least_bytes, split_limited=limited)
    # a phase that may in truth be the larger one adds to the doubt
    rivals = [
        size + phase.uncertainty_bytes - peak_bytes
        for phase, size in zip(phases, sizes, strict=True)
    ]
    how = f"derived from the profile run: its {peak.name} phase decides"
    if peak is compiling:
        how += " (not where the compiled model is in vLLM's cache)"
    if encoder is not None:
        how += f"; encoder profiled with {encoder.how}"
    unsure += max(*rivals, 0)
    return ActivationPeak(tuple(phases), peak, peak_bytes, least_bytes, unsure, how, beyond)


_ALLOWED_IDS, _BIASED_IDS, _STOP_IDS = 1024, 1024, 128
_BAD_WORD_TOKENS, _BAD_WORDS = 1024, 128
_V1_BYTES_A_TOKEN = 4 + 8 + 8 + 4
"""Token ids, positions, slot mapping, and a few smaller ones."""
_V2_BYTES_A_TOKEN = 4 + 8 + 1
"""Token ids, positions, padding marks."""


def runner_buffers(rank: Rank) -> Parts:
    """What the model runner keeps besides the weights from before the profile run, by its use.

    It counts from vLLM 0.27 on, where memory is read from the device; before, these buffers took
    from what was left over.

    Source: vLLM 0.33 ``v1/worker/gpu/model_runner.py``, ``input_batch.py``, ``states.py``,
    ``sample/penalties.py``, ``sample/logit_bias.py``, ``sample/bad_words.py``,
    ``structured_outputs.py``, ``mm/encoder_runner.py``; ``v1/worker/gpu_model_runner.py``,
    ``gpu_input_batch.py``, ``block_table.py`` for V1.
    """
    setup = rank.setup
    tokens = setup.resolved.batch.max_num_batched_tokens
    embeds = tokens * rank.hidden * rank.element if setup.model.is_multimodal else 0
    common = (*parts(inputs_embeds=embeds), *draft_buffers(rank), *eplb_buffers(rank))
    if rank.uses_v2:
        return (
            *common,
            *parts(
                input_buffers=tokens * _V2_BYTES_A_TOKEN,
                intermediate_tensors=rank.intermediate_tensors,
            ),
            *(_v2_sampler(rank) if rank.is_last else ()),
        )
    seqs, length = setup.resolved.batch.max_num_seqs, setup.resolved.length.max_model_len
    blocks = -(-length // setup.context.block_size)
    return (
        *common,
        *parts(input_buffers=tokens * _V1_BYTES_A_TOKEN, block_table=seqs * blocks * 4),
    )


def _v2_sampler(rank: Rank) -> Parts:
    """States of the sampler: a count for every request and word, whether penalties are used."""
    if rank.setup.model.runner_type != "generate":
        return ()
    seqs = rank.setup.resolved.batch.max_num_seqs
    speculative = rank.setup.resolved.speculative
    drafted = 0 if speculative is None else speculative.num_speculative_tokens or 0
    mask = -(-rank.vocab // 32) * 4
    return parts(
        penalty_counts=seqs * rank.vocab * 4,
        prompt_mask=seqs * mask,
        grammar_mask=seqs * (1 + drafted) * mask,
        logit_bias=seqs * 4 * (_ALLOWED_IDS + 2 * _BIASED_IDS + _STOP_IDS),
        bad_words=seqs * 4 * (_BAD_WORD_TOKENS + _BAD_WORDS + 1),
    )
