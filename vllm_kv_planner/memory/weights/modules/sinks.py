"""Attention sinks of as many heads as the sparse kernel takes."""

from __future__ import annotations

from collections.abc import Iterator

from ....records import dataclass
from ..rank import Place
from ..tensor import Tensor


@dataclass(frozen=True)
class PaddedSinks:
    """``attn_sink`` of DeepSeek-V4: heads per GPU, padded to 64 or 128.

    Source: vLLM 0.33 ``models/deepseek_v4/attention.py`` ``get_padded_num_q_heads``.
    """

    name: str
    heads: int

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """One float32 a head."""
        heads = self.heads // place.rank.tensor_parallel_size
        yield place.tensor(self.name, (64 if heads <= 64 else 128,), "float32")
