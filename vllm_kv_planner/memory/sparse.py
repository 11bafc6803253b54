"""Workspaces of sparse latent attention (DeepSeek-V3.2 and V4, GLM-5), which the profile reserves.

They lie in vLLM's one workspace, with the fused experts' buffers: it grows to the largest of what
is asked for, and stays allocated. With L tokens of ``max_model_len`` and T of a step:

* the indexer gathers the keys of 40 L tokens (a group of tokens has one key), 132 bytes each; from
  0.32 on 16 L where L is above 256 Ki;
* FlashMLA with an fp8 cache expands 5 L rows of 576 in bfloat16 (2 L likewise), beside the queries;
  of DeepSeek-V4 four requests' groups and windows.

The indexer's logits (VLLM_SPARSE_INDEXER_MAX_LOGITS_MB, 512 MiB) live for a moment.

Source: vLLM 0.18 to 0.33 ``v1/attention/backends/mla/indexer.py`` ``get_max_prefill_buffer_size``,
``flashmla_sparse.py`` (``FlashMLASparseImpl.__init__``), ``layers/sparse_attn_indexer.py``,
``models/deepseek_v4/nvidia/flashmla.py``; ``config/vllm.py``
(``sparse_mla_prefill_workspace_factor``) of 0.32.
"""

from __future__ import annotations

from ..model.layers.deepseek_v4 import CompressedIndex
from ..model.layers.sparse import Indexer
from .phase import MIB, round_up
from .rank import Rank

_FACTOR, _SMALL_FACTOR = 5, 2
_LONG = 256 * 1024
_KEYS_A_ROW = 576 * 2 // 132
_SCALE = 4
_TOP_K = MIB
_ROW, _LATENT = 576, 512
_REQUESTS = 4
"""``PREFILL_CHUNK_SIZE`` of DeepSeek-V4."""
_LOGITS = 512 * MIB
_BF16 = 2


def sparse_workspace(rank: Rank) -> int:
    """Bytes that the attention's indexer and kernels reserve; 0 where it is not sparse."""
    setup = rank.setup
    if setup.gpu.platform != "cuda":
        return 0
    length = setup.resolved.length.max_model_len
    return max(_gathered(rank, length), _expanded(rank, length), _groups(rank, length))


def indexer_logits(rank: Rank) -> int:
    """Bytes of the indexer's largest logits, which the profile allocates for a moment."""
    seen = rank.setup.gpu.platform == "cuda" and rank.rules.profiles_indexer_logits
    return _LOGITS if seen and _indexers(rank) else 0


def decode_logits(rank: Rank, rows: int) -> int:
    """Bytes of the indexer's float32 scores of a decode step: every row against a whole context.

    A full CUDA graph has them in its pool, and its warm-up has left as many with the allocator.
    Source: vLLM 0.26 ``layers/sparse_attn_indexer.py`` (``fp8_fp4_paged_mqa_logits``, of
    ``[B * next_n, max_model_len]``), ``_warmup_and_capture``. GLM-5.2 on four 184 GiB GPUs (0.26,
    819,200 tokens) printed an estimate of 4.99 GiB, of which these are 3.1; eight H20 agree.
    """
    if rank.setup.gpu.platform != "cuda":
        return 0
    length = rank.setup.resolved.length.max_model_len
    return max((rows * (length // ratio) * 4 for ratio, _ in _indexers(rank)), default=0)


def _factor(rank: Rank, length: int) -> int:
    is_long = length > _LONG and rank.rules.shrinks_sparse_workspace
    return _SMALL_FACTOR if is_long else _FACTOR


def _indexers(rank: Rank) -> list[tuple[int, int]]:
    """Of every indexer tokens a key, and a key's width."""
    layers = rank.setup.model.layers
    plain = ((each.tokens_per_key, each.head_dim) for each in layers if isinstance(each, Indexer))
    return [
        *plain,
        *((e.compress_ratio, e.head_dim) for e in layers if isinstance(e, CompressedIndex)),
    ]


def _gathered(rank: Rank, length: int) -> int:
    tokens = length * _KEYS_A_ROW * _factor(rank, length)
    sizes = (tokens // ratio * (width + _SCALE) for ratio, width in _indexers(rank))
    return max((size + _TOP_K for size in sizes), default=0)


def _expanded(rank: Rank, length: int) -> int:
    setup = rank.setup
    if "FLASHMLA_SPARSE" not in setup.cache.backends:
        return 0
    heads, tokens = setup.model.num_attention_heads // rank.tp, rank.tokens
    queries = tokens * heads * _ROW * _BF16
    if not setup.resolved.kv_cache_dtype.name.startswith("fp8"):
        return queries
    rows = _factor(rank, length) * length * _ROW * _BF16
    if not rank.rules.shrinks_sparse_workspace:
        return queries + rows
    padded = round_up(heads, 64 if setup.gpu.cuda_capability[0] == 9 else 128)
    return queries + rows + tokens * (padded * (_ROW + _LATENT) + heads * _LATENT) * _BF16


def _groups(rank: Rank, length: int) -> int:
    if "FLASHMLA_SPARSE_DSV4" not in rank.setup.cache.backends:
        return 0
    ratio = min((ratio for ratio, _ in _indexers(rank)), default=1)
    return _REQUESTS * (length // ratio + rank.tokens) * _LATENT * _BF16
