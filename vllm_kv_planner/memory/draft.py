"""What speculative decoding adds to the profile run and to the runner's buffers.

After the target's forward pass the draft runs over the same tokens, and computes logits for every
request; the target's hidden states, and those of inner layers that EAGLE-3 reads, live on
meanwhile. An independent draft model takes one more token a request, for which Model Runner V2
profiles fewer. Model Runner V1 computes no logits there, but runs its rejection sampler afterwards:
logits of two rows a request, and the sampler on half of them.

Source: vLLM 0.33 ``v1/worker/gpu/model_runner.py`` ``_dummy_run``,
``v1/worker/gpu/spec_decode/speculator.py``, ``target_dependent_ar/speculator.py``,
``standalone_ar/speculator.py``, ``multi_module_mtp/speculator.py``; for V1
``v1/worker/gpu_model_runner.py`` ``_dummy_sampler_run``, ``v1/sample/rejection_sampler.py``,
``v1/spec_decode/llm_base_proposer.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import replace
from .forward import forward_phase
from .phase import Parts, Phase, parts, round_up
from .rank import Rank
from .sampler import held_by_sampler

if TYPE_CHECKING:
    from ..model.draft import Draft

READS_INNER_STATES = ("eagle3", "dflash")
_AUX_STATES = 3
"""Inner layers whose states EAGLE-3 reads, where its config names none."""
_BYTES_A_TOKEN = 4 + 8 + 1
"""Token ids, positions, padding marks: the draft's own."""
_VOCAB_PADDING = 64


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
