"""Which CUDA graphs an engine captures: modes and batch sizes.

Restates ``VllmConfig._set_cudagraph_sizes`` (vLLM 0.19 to 0.33 ``config/vllm.py``), the override
of gpt-oss (``model_executor/models/config.py``), ``CudagraphDispatcher.initialize_cudagraph_keys``
(``v1/cudagraph_dispatcher.py``) and the modes of the optimisation levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine_args.kv_connector import needs_piecewise
from ..records import dataclass
from .rank import Rank

_BY_NUMBER = {0: "NONE", 1: "PIECEWISE", 2: "FULL"}
_BY_LEVEL = {"0": "NONE", "1": "PIECEWISE"}
_DEFAULT_MODE = "FULL_AND_PIECEWISE"


@dataclass(frozen=True)
class Captures:
    """Graphs by mode; a size is a number of tokens.

    Attributes:
        mode: vLLM's name of the mode.
        piecewise: Sizes captured piece by piece, between attentions.
        full: Sizes captured whole, decode batches.
    """

    mode: str
    piecewise: tuple[int, ...] = ()
    full: tuple[int, ...] = ()


def captures(rank: Rank) -> Captures:
    """What one rank captures; nothing with ``--enforce-eager``."""
    mode = capture_mode(rank)
    if mode == "NONE":
        return Captures(mode)
    sizes = capture_sizes(rank)
    query = _query_length(rank)
    decode = rank.setup.resolved.batch.max_num_seqs * query
    decodes = tuple(size for size in sizes if query <= size <= decode)
    if mode == "PIECEWISE":
        return Captures(mode, piecewise=sizes)
    if mode == "FULL":
        return Captures(mode, full=sizes)
    if mode == "FULL_DECODE_ONLY":
        return Captures(mode, full=decodes)
    return Captures(mode, piecewise=sizes, full=decodes)


def capture_mode(rank: Rank) -> str:
    """``cudagraph_mode`` after the optimisation level and what the attention can do."""
    setup = rank.setup
    asked = setup.args.compilation_config.get("cudagraph_mode")
    level = setup.args.optimization_level
    if setup.args.enforce_eager or (asked is None and _BY_LEVEL.get(level) == "NONE"):
        return "NONE"
    mode = _DEFAULT_MODE if asked is None else _name(asked)
    if asked is None:
        mode = _BY_LEVEL.get(level, mode)
    if mode == _DEFAULT_MODE and _only_piecewise(rank):
        return "PIECEWISE"
    if mode != "NONE" and needs_piecewise(setup.args.kv_transfer_config):
        return "PIECEWISE"
    return mode


def captures_full(rank: Rank) -> bool:
    """Whether whole steps are captured, decode batches at the least.

    Source: vLLM 0.33 ``CUDAGraphMode.has_full_cudagraphs``.
    """
    return capture_mode(rank).startswith("FULL")


def capture_sizes(rank: Rank) -> tuple[int, ...]:
    """Sizes in ascending order."""
    setup = rank.setup
    batch = setup.resolved.batch
    tokens, seqs, query = batch.max_num_batched_tokens, batch.max_num_seqs, _query_length(rank)
    config: Mapping[str, Any] = setup.args.compilation_config
    asked = setup.args.cudagraph_capture_sizes or config.get("cudagraph_capture_sizes")
    if asked:
        return tuple(sorted({int(size) for size in asked if int(size) <= tokens}))
    major = setup.gpu.cuda_capability[0]
    ceiling = 1024 if major == 10 and rank.rules.version >= (0, 29) else 512
    largest = setup.args.max_cudagraph_capture_size or config.get("max_cudagraph_capture_size")
    chosen = largest is None
    if largest is None and setup.model.architecture == "GptOssForCausalLM":
        largest = 1024
    if largest is None:
        largest = min(seqs * query * 2, ceiling)
    largest = min(tokens, int(largest))
    sizes = {size for size in (1, 2, 4) if size <= largest}
    sizes.update(range(8, min(largest + 1, 256), 8), range(256, largest + 1, 16))
    if rank.rules.version >= (0, 22) and tokens <= largest:
        sizes.add(tokens)
    if rank.rules.version >= (0, 29) and chosen and query == 1 and seqs <= largest:
        sizes.add(seqs)
    return tuple(sorted(sizes))


def _query_length(rank: Rank) -> int:
    speculative = rank.setup.resolved.speculative
    return 1 + (0 if speculative is None else speculative.num_speculative_tokens or 0)


def _name(mode: object) -> str:
    if isinstance(mode, int):
        return _BY_NUMBER.get(mode, _DEFAULT_MODE)
    return str(mode).upper().rpartition(".")[2]


def _only_piecewise(rank: Rank) -> bool:
    """Chunked local attention cannot be captured whole (Llama 4; 51 piecewise graphs in logs)."""
    stages = rank.setup.cache.stages
    kinds = {spec.kind for layers in stages for spec in dict(layers).values()}
    return "chunked_local_attention" in kinds
