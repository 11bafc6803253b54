"""The profile's last phase: logits of every request over the whole vocabulary, and the sampler.

Tensor parallelism does not shrink it: the logits are gathered on every rank. With R rows (the
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

Source: vLLM 0.16 to 0.33 ``v1/sample/sampler.py``, ``v1/sample/ops/topk_topp_sampler.py``,
``topk_topp_triton.py``, ``v1/worker/gpu/sample/sampler.py``, ``_dummy_sampler_run`` of both
runners; flashinfer ``sampling.py``; PyTorch ``aten/src/ATen/native/cuda/SortStable.cu``.
"""

from __future__ import annotations

from .phase import Parts, Phase, parts
from .rank import Rank

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
    if not rank.uses_v2:
        return _v1(rank)
    if not rank.rules.v2_warms_sampler:
        return ()
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
