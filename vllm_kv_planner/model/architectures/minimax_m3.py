"""MiniMax-M3: attention to chosen blocks of tokens.

Source: vLLM 0.33 ``models/minimax_m3/nvidia/model.py``,
``transformers_utils/configs/minimax_m3.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layers.base import CacheLayer
from ..layers.sparse import IndexKeys, MiniMaxSparseAttention
from .blocks import attention, repeated
from .reader import ModelReader


def minimax_m3(model: ModelReader) -> Sequence[CacheLayer]:
    """MiniMax-M3: plain attention in some layers; index keys and sparse attention in the rest."""
    text = model.text
    count = model.num_hidden_layers
    given = text.opt_sub("sparse_attention_config")
    default = [0] * 3 + [1] * 57 if given is None else []
    frequencies = default
    index_dim = 128
    if given is not None:
        frequencies = given.list_of_ints("sparse_attention_freq", default=())
        index_dim = given.int("sparse_index_dim") if any(frequencies) else index_dim
    plain = attention(model, head_size=text.int("head_dim", default=128))
    chosen = MiniMaxSparseAttention(
        index=0,
        num_heads=plain.num_heads,
        num_kv_heads=plain.num_kv_heads,
        head_size=plain.head_size,
    )
    keys = IndexKeys(
        index=0, head_dim=index_dim, is_indexer=True, fixed="MINIMAX_M3_SPARSE_INDEXER"
    )
    dense, sparse = repeated(plain), repeated(keys, chosen)
    flags = [*frequencies, *[0] * count][:count]
    return [
        layer for index, flag in enumerate(flags) for layer in (sparse if flag else dense)(index)
    ]
