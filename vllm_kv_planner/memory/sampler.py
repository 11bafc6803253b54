"""The profile's last phases: logits of every request, the sampler, and what drafting adds.

Tensor parallelism does not shrink them: logits are gathered on every rank. With R rows (the
requests sampled at once) and V words the live tensors at the worst moment are, in bytes:

===================  ==========================================================================
logits               2 R V in the model's dtype, held by the caller throughout
float32 copy         4 R V, made by the sampler; top-k and top-p mask it in place
FlashInfer           4 R V masked logits + 4 R V probabilities
native, Triton       4 SMs V rows of scratch, kept for good, then 4 R V probabilities + 4 R V
                     exponential noise: 14 R V and the scratch, 14.5 R V on an H100 at 1,024 rows
native, sorting      4 R V sorted values + 8 R V their indices, and inside ``sort`` 8 R V segment
                     indices + 12 R V of CUB's buffers: 38 R V (before 0.17; few rows until 0.30)
Model Runner V2      samples the logits as they are (2 R V), until 0.33 profiles all parameters
===================  ==========================================================================

After the target's forward pass a draft runs over the same tokens, and computes logits for every
request; the target's hidden states, and those of inner layers that EAGLE-3 reads, live on
meanwhile. An independent draft model takes one more token a request, for which Model Runner V2
profiles fewer. Model Runner V1 computes no logits there, but runs its rejection sampler afterwards:
logits of two rows a request, and the sampler on half of them.

Source: vLLM 0.16 to 0.33 ``v1/sample/sampler.py``, ``v1/sample/ops/topk_topp_sampler.py``,
``topk_topp_triton.py``, ``v1/worker/gpu/sample/sampler.py``, ``_dummy_sampler_run`` of both
runners; flashinfer ``sampling.py``; PyTorch ``aten/src/ATen/native/cuda/SortStable.cu``; for drafts
``v1/worker/gpu/model_runner.py`` ``_dummy_run``, ``v1/worker/gpu/spec_decode/speculator.py``,
``target_dependent_ar/speculator.py``, ``standalone_ar/speculator.py``,
``multi_module_mtp/speculator.py``; for V1 ``v1/worker/gpu_model_runner.py``
``_dummy_sampler_run``, ``v1/sample/rejection_sampler.py``, ``v1/spec_decode/llm_base_proposer.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import replace
from .forward import forward_phase
from .phase import Parts, Phase, parts, round_up
from .rank import Rank

if TYPE_CHECKING:
    from ..model.draft import Draft


READS_INNER_STATES = ("eagle3", "dflash")
_AUX_STATES = 3
"""Inner layers whose states EAGLE-3 reads, where its config names none."""
_BYTES_A_TOKEN = 4 + 8 + 1
"""Token ids, positions, padding marks: the draft's own."""
_VOCAB_PADDING = 64
_FEW_ROWS = 8
_FLASHINFER_FROM = (7, 5)
_FLASHINFER_SMS = 17
_SORT_WORKSPACE = 8 + 4 + 8
"""Bytes an element inside ``sort``: segment indices, CUB's second keys and second values."""


def sampler_phase(rank: Rank, held: Parts) -> Phase:
    """Logits and sampler on the last pipeline stage; ``held`` lives on from earlier phases."""
    rows = rank.rows * rank.hidden * rank.element
    states = parts(
        hidden_states=rank.tokens * rank.hidden * rank.element,
        sampled_hidden_states=rows,
        random_hidden_states=0 if rank.uses_v2 else rows,
    )
    live = (*held, *states, *_logits(rank), *held_by_sampler(rank))
    return Phase("sampler", live, sum(size for _, size in live) // 100)


def sampling_beyond_profile(rank: Rank, held: Parts, least: int, *, split_limited: bool) -> int:
    """What sampling with parameters takes beyond the profile, bytes; 0 where it is profiled.

    Model Runner V2 before 0.33 profiles its sampler greedily. After the CUDA graphs are captured it
    runs every request with every parameter (and ends without memory where there is no room: a start
    of 0.27 on an RTX 4090 had 0.5 GiB left for the 0.52 it takes), and so may the first requests.

    Source: vLLM 0.27 ``v1/worker/gpu/warmup.py`` ``warmup_kernels``, ``SamplingParams``
    ``for_sampler_warmup``, ``v1/worker/gpu_worker.py`` ``compile_or_warm_up_model``.

    Args:
        rank: The last stage's.
        held: What lives on from earlier phases.
        least: The leanest profile's peak.
        split_limited: As ``Phase.total_bytes`` has it.
    """
    if not rank.uses_v2 or rank.rules.v2_warms_sampler:
        return 0
    greedy = sampler_phase(rank, held).parts
    whole = Phase("sampling", (*greedy, *held_with_parameters(rank)))
    return max(0, whole.total_bytes(split_limited=split_limited) - least)


def lean_sampler(rank: Rank, phase: Phase) -> Phase:
    """The phase as images with FlashInfer installed have it before 0.12: they sample with it.

    Source: vLLM 0.10 and 0.11 ``v1/sample/ops/topk_topp_sampler.py``; starts on an A100 (0.10.1)
    and an L4 (0.11) that printed about 14 bytes a logit, where others printed 38.
    """
    if phase.name != "sampler" or not rank.rules.flashinfer_where_installed:
        return phase
    sorting = {name for name, _ in held_by_sampler(rank)}
    kept = tuple(part for part in phase.parts if part[0] not in sorting)
    return Phase("sampler", (*kept, *_flashinfer(rank)), phase.uncertainty_bytes)


def held_by_sampler(rank: Rank) -> Parts:
    """What the sampler makes beside the logits."""
    if rank.uses_v2 and not rank.rules.v2_warms_sampler:
        return ()
    return held_with_parameters(rank)


def held_with_parameters(rank: Rank) -> Parts:
    """What the sampler makes beside the logits where requests set temperature, top-k and top-p."""
    if not rank.uses_v2:
        return _v1(rank)
    gpu = rank.setup.gpu
    enough = gpu.num_sms is None or gpu.num_sms >= _FLASHINFER_SMS
    supported = gpu.cuda_capability >= _FLASHINFER_FROM
    if rank.rules.flashinfer_samples and supported and enough:
        return _flashinfer(rank)
    return parts(
        float32_logits=rank.rows * rank.vocab * 4,
        top_k_scratch=_triton_scratch(rank),
    )


def _logits(rank: Rank) -> Parts:
    size = rank.rows * rank.padded_vocab * rank.element
    is_capped = rank.setup.model.text_config.get("final_logit_softcapping") is not None
    if rank.uses_v2 and not rank.rules.v2_warms_sampler and is_capped:
        # tanh(logits / cap) * cap: two of the three live at once, and nothing later is larger
        return parts(logits=size, capped_logits=size)
    return parts(logits=size)


def _v1(rank: Rank) -> Parts:
    plane = rank.rows * rank.vocab * 4
    copy = 0 if rank.element == 4 else plane
    few = rank.rows < _FEW_ROWS and rank.rules.few_rows_sort
    if rank.rules.sampler_sorts or few:
        return parts(
            float32_logits=copy,
            sorted_logits=plane,
            sorted_indices=2 * plane,
            sort_workspace=rank.rows * rank.vocab * _SORT_WORKSPACE,
        )
    return parts(
        float32_logits=copy,
        top_k_scratch=_triton_scratch(rank),
        probabilities=plane,
        exponential_noise=plane,
    )


def _flashinfer(rank: Rank) -> Parts:
    plane = rank.rows * rank.vocab * 4
    return parts(float32_logits=plane, masked_logits=plane, probabilities=plane)


def _triton_scratch(rank: Rank) -> int:
    """``apply_top_k_top_p_triton``: one row a program, as many programs as there are SMs."""
    sms = rank.setup.gpu.num_sms or 132
    programs = min(sms, rank.rows)
    return min(1 << (programs - 1).bit_length(), sms) * rank.vocab * 4


def draft_of(rank: Rank) -> Draft | None:
    """What drafts on this rank: on the last stage alone."""
    return rank.setup.draft if rank.is_last else None


def inner_states(rank: Rank) -> Parts:
    """Hidden states of the target's inner layers, kept for EAGLE-3 until it has run."""
    draft = rank.setup.draft
    if draft is None or draft.method not in READS_INNER_STATES:
        return ()
    stated = draft.model.text_config.get("eagle_config")
    nested: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
    if nested.get("use_aux_hidden_state") is False:
        return ()
    listed = nested.get("eagle_aux_hidden_state_layer_ids")
    count = len(listed) if isinstance(listed, list) and listed else _AUX_STATES
    if draft.method == "dflash":
        from ..model.eagle import inner_layers

        count = inner_layers(draft.model.text_config) or draft.model.num_hidden_layers
    return parts(inner_hidden_states=count * rank.tokens * rank.hidden * rank.element)


def draft_phases(rank: Rank, held: Parts, workspace: Parts) -> list[Phase]:
    """The draft's forward pass and its logits.

    ``held``: what lives on from the target's phases. ``workspace``: workspaces that stay allocated,
    which the draft's experts share.
    """
    draft = draft_of(rank)
    if draft is None or not draft.layers:
        return []
    own = drafting(rank, draft)
    width = rank.tokens * own.hidden * rank.element
    held = (
        *held,
        *inner_states(rank),
        *parts(
            hidden_states=rank.tokens * rank.hidden * rank.element,
            combined_states=width if draft.method in READS_INNER_STATES else 0,
        ),
    )
    shared = () if own.shapes.experts is not None else workspace
    forward = forward_phase(own, (*held, *shared))
    phases = [replace(forward, name="draft")]
    if rank.uses_v2:
        live = (*held, *workspace, *parts(draft_hidden_states=width), *_draft_logits(rank, own))
        phases.append(Phase("draft logits", live, sum(size for _, size in live) // 50))
    return phases


def drafting(rank: Rank, draft: Draft) -> Rank:
    """The rank as the draft's layers see it."""
    if draft.method == "mtp":
        return rank
    return replace(rank, setup=replace(rank.setup, model=draft.model))


def _draft_logits(rank: Rank, own: Rank) -> Parts:
    """Logits over the draft's words; spread over the target's where these are more."""
    words = own.vocab
    if rank.setup.draft is not None and rank.setup.draft.method in READS_INNER_STATES:
        stated = own.setup.model.text_config.get("draft_vocab_size")
        words = stated if isinstance(stated, int) and stated > 0 else words
    size = rank.rows * round_up(words, _VOCAB_PADDING) * rank.element
    spread = rank.rows * own.vocab * rank.element if words != own.vocab else 0
    return parts(
        draft_sampled_states=rank.rows * own.hidden * rank.element,
        draft_logits=size,
        spread_logits=spread,
    )


def rejection_phase(rank: Rank, held: Parts) -> Phase | None:
    """Model Runner V1's rejection sampler at its worst moment; None where it is not profiled."""
    if rank.setup.resolved.speculative is None or rank.uses_v2:
        return None
    plane = rank.rows * rank.vocab * 4
    logits = rank.rows * rank.vocab * rank.element
    sampled = held_by_sampler(rank)
    # the sampler over the last token's logits, or float32 logits twice, probabilities and noise
    bonus = parts(bonus_logits=logits)
    verified = parts(
        target_logits=plane, constrained_logits=plane, target_probabilities=plane, noise=plane
    )
    worst = max(((*bonus, *sampled), verified), key=lambda each: sum(size for _, size in each))
    hidden = parts(
        hidden_states=rank.tokens * rank.hidden * rank.element,
        sampled_hidden_states=2 * rank.rows * rank.hidden * rank.element,
    )
    live = (*held, *hidden, *parts(all_logits=2 * logits), *worst)
    return Phase("rejection sampler", live, sum(size for _, size in live) // 20)


def draft_buffers(rank: Rank) -> Parts:
    """What the draft's runner keeps: inputs, hidden states, logits kept for verification."""
    draft, speculative = draft_of(rank), rank.setup.resolved.speculative
    if draft is None or speculative is None:
        return ()
    batch = rank.setup.resolved.batch
    tokens, seqs = batch.max_num_batched_tokens, batch.max_num_seqs
    drafted = speculative.num_speculative_tokens or 0
    own = drafting(rank, draft)
    states = tokens * own.hidden * rank.element
    embeds = rank.setup.model.is_multimodal if rank.uses_v2 else True
    if draft.method == "draft_model":
        states, tokens, embeds = 0, 2 * tokens + seqs, False
    kept = 0
    if speculative.samples_probabilistically:
        kept = seqs * drafted * own.vocab * rank.element
    return parts(
        draft_inputs=tokens * _BYTES_A_TOKEN,
        draft_hidden_states=states,
        draft_inputs_embeds=states if embeds else 0,
        draft_tokens=seqs * drafted * (8 + 8 + 4),
        draft_logits=kept,
    )
