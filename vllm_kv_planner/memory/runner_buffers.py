"""What the model runner keeps on the GPU besides the weights, allocated before the profile run.

It counts from vLLM 0.27 on, where memory is read from the device. Before, only weights, the torch
peak above them and memory outside torch counted, and these buffers took from what was left over.

Source: vLLM 0.33 ``v1/worker/gpu/model_runner.py``, ``input_batch.py``, ``states.py``,
``sample/penalties.py``, ``sample/logit_bias.py``, ``sample/bad_words.py``,
``structured_outputs.py``, ``mm/encoder_runner.py``; ``v1/worker/gpu_model_runner.py``,
``gpu_input_batch.py``, ``block_table.py`` for V1.
"""

from __future__ import annotations

from .draft import draft_buffers
from .eplb import eplb_buffers
from .phase import Parts, parts
from .rank import Rank

_ALLOWED_IDS, _BIASED_IDS, _STOP_IDS = 1024, 1024, 128
_BAD_WORD_TOKENS, _BAD_WORDS = 1024, 128
_V1_BYTES_A_TOKEN = 4 + 8 + 8 + 4
"""Token ids, positions, slot mapping, and a few smaller ones."""
_V2_BYTES_A_TOKEN = 4 + 8 + 1
"""Token ids, positions, padding marks."""


def runner_buffers(rank: Rank) -> Parts:
    """Bytes on one rank, by what they are for."""
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
