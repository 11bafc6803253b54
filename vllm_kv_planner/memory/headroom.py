"""What traffic takes of a GPU beyond the profile run, once the engine has started.

vLLM sizes the KV cache by one profiled step. What no profiled step does has to find room in what
``gpu_memory_utilization`` left. Adapters loaded later take nothing: their slots are weights.
Source of each risk: the file it names, of vLLM 0.33; those of 0.17 to 0.31 do the same.
"""

from __future__ import annotations

from ..records import dataclass
from .activation import ActivationPeak
from .cuda_graphs import captures
from .phase import Phase, parts
from .rank import Rank
from .rank_budget import SLIGHTLY_MORE
from .sampler import sampler_phase
from .sparse import decode_logits

MIB = 1 << 20
_CHUNK = 1024
"""Prompt tokens that Model Runner V2 scores at once (``prompt_logprob.py`` CHUNK_SIZE)."""
_FLASHINFER_WORKSPACE = 394 * MIB
"""VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE."""
_FLASHINFER_BYTES = 16
"""FLASHINFER_PREFILL_WORKSPACE_BYTES_PER_ELEM, of 0.31 and later."""


@dataclass(frozen=True, kw_only=True)
class Risk:
    """One thing that requests may ask for.

    Attributes:
        name: What it is.
        size_bytes: What it takes beyond the profile at the most; None: nobody knows.
        lasts: Once taken it stays.
        source: vLLM's file, or the record.
        remedy: The flag or variable that removes or shrinks it.
    """

    name: str
    size_bytes: int | None
    lasts: bool
    source: str
    remedy: str


def risks(rank: Rank, peak: ActivationPeak) -> tuple[Risk, ...]:
    """What may come on one rank, the largest first; what is not known last."""
    used = peak.least_bytes + peak.beyond_bytes
    found = (
        _prompt_logprobs(rank, used),
        _logprobs(rank, used),
        _attention(rank),
        _sparse_scores(rank, used),
        _images(rank),
        _communication(rank),
        Risk(
            name="memory in pieces",
            size_bytes=SLIGHTLY_MORE,
            lasts=True,
            source="v1/worker/gpu_worker.py compile_or_warm_up_model: 150 MiB kept back for it",
            remedy="PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        ),
    )
    known = [risk for risk in found if risk is not None and risk.size_bytes != 0]
    return tuple(sorted(known, key=lambda risk: -(risk.size_bytes or 0)))


def wanted_bytes(found: tuple[Risk, ...]) -> int:
    """What all that lasts and the largest of the rest take together."""
    lasting = sum(risk.size_bytes or 0 for risk in found if risk.lasts)
    return lasting + max((risk.size_bytes or 0 for risk in found if not risk.lasts), default=0)


def _generates(rank: Rank) -> bool:
    return rank.is_last and rank.setup.model.runner_type == "generate"


def _beyond(rank: Rank, used: int, **tensors: int) -> int:
    phase = Phase("request", parts(hidden_states=_stream(rank), **tensors))
    return max(0, phase.total_bytes(split_limited=rank.rules.split_limited) - used)


def _stream(rank: Rank) -> int:
    return rank.tokens * rank.hidden * rank.element


def _prompt_logprobs(rank: Rank, used: int) -> Risk | None:
    """Logits of a prompt's tokens: all of a step's on Model Runner V1, 1,024 at once on V2."""
    if not _generates(rank):
        return None
    rows = min(rank.tokens, rank.setup.resolved.length.max_model_len)
    logits = rows * rank.padded_vocab * rank.element
    if rank.uses_v2:
        rows = min(rows, _CHUNK)
        size = _beyond(rank, used, logits=rows * rank.padded_vocab * rank.element)
        where = "v1/worker/gpu/sample/prompt_logprob.py"
    else:
        size = _beyond(rank, used, logits=logits, logprobs=rows * rank.vocab * 4)
        where = "v1/worker/gpu_model_runner.py _get_prompt_logprobs_dict"
    return Risk(
        name="prompt logprobs",
        size_bytes=size,
        lasts=False,
        source=where,
        remedy="a smaller --max-num-batched-tokens",
    )


def _logprobs(rank: Rank, used: int) -> Risk | None:
    """Model Runner V1 keeps a float32 copy of every request's scores while it samples."""
    if not _generates(rank) or rank.uses_v2:
        return None
    sampling = sampler_phase(rank, ()).total_bytes(split_limited=rank.rules.split_limited)
    return Risk(
        name="logprobs of answers",
        size_bytes=max(0, sampling + rank.rows * rank.vocab * 4 - used),
        lasts=False,
        source="v1/sample/sampler.py forward: raw_logprobs",
        remedy="a smaller --max-num-seqs",
    )


def _attention(rank: Rank) -> Risk | None:
    """FlashInfer's workspace: the profile skips attention, its first real step allocates it."""
    if "FLASHINFER" not in rank.setup.cache.backends:
        return None
    size = _FLASHINFER_WORKSPACE
    if rank.rules.version >= (0, 31):
        size = max(size, rank.tokens * rank.shapes.query * _FLASHINFER_BYTES)
    return Risk(
        name="attention workspace",
        size_bytes=size,
        lasts=True,
        source="v1/attention/backends/flashinfer.py _get_workspace_buffer",
        remedy="another --attention-backend, or VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE",
    )


def _sparse_scores(rank: Rank, used: int) -> Risk | None:
    """Of batches larger than the largest captured graph."""
    batch = rank.setup.resolved.batch.max_num_seqs
    captured = max(captures(rank).full, default=0)
    if batch <= captured:
        return None
    return Risk(
        name="sparse attention's scores of large batches",
        size_bytes=max(0, decode_logits(rank, batch) - decode_logits(rank, captured) - used),
        lasts=False,
        source="model_executor/layers/sparse_attn_indexer.py",
        remedy="a smaller --max-num-seqs or --max-model-len",
    )


def _images(rank: Rank) -> Risk | None:
    setup = rank.setup
    if not setup.model.is_multimodal or setup.args.language_model_only or not rank.is_first:
        return None
    return Risk(
        name="images and videos of other kinds at once",
        size_bytes=None,
        lasts=False,
        source="v1/worker/gpu_model_runner.py profile_run: the kind with the largest items alone",
        remedy="--limit-mm-per-prompt",
    )


def _communication(rank: Rank) -> Risk | None:
    if rank.setup.args.num_gpus == 1:
        return None
    return Risk(
        name="NCCL's buffers of first use",
        size_bytes=None,
        lasts=True,
        source="NCCL connects peers when an operation first needs them (2.22 and later)",
        remedy="NCCL_RUNTIME_CONNECT=0, which takes them before the profile",
    )
