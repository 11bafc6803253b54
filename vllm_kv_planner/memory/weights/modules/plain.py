"""Norms, single parameters and buffers, and attention's scales."""

from __future__ import annotations

from collections.abc import Iterator

from ....records import dataclass
from ..rank import Place
from ..tensor import Tensor


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer as it is; nothing of it is quantised.

    Attributes:
        name: With its suffix: ``conv1d.weight``.
        shape: Of the whole model's.
        sharded: Index of the dimension that tensor parallelism divides; None: replicated.
        dtype: None for the engine's.
        shared: The same tensor wherever this key comes up on a rank.
    """

    name: str
    shape: tuple[int, ...]
    sharded: int | None = None
    dtype: str | None = None
    shared: object | None = None

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The one tensor."""
        shape = self.shape
        if self.sharded is not None:
            parts = list(shape)
            # fewer rows than GPUs: every GPU holds one (heads that are replicated)
            parts[self.sharded] = max(1, parts[self.sharded] // place.rank.tensor_parallel_size)
            shape = tuple(parts)
        yield place.tensor(self.name, shape, self.dtype, self.shared)


@dataclass(frozen=True)
class Norm:
    """``RMSNorm``; with a bias ``LayerNorm``. Replicated."""

    name: str
    size: int
    bias: bool = False
    part: str = "norms"

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weight, and bias."""
        inside = place.at(self.name, self.part)
        yield inside.tensor("weight", (self.size,))
        if self.bias:
            yield inside.tensor("bias", (self.size,))


@dataclass(frozen=True)
class AttentionScales:
    """What ``Attention`` and ``MLAAttention`` register: float32 scales, and the KV cache method's.

    Source: vLLM 0.33 ``layers/attention/attention.py`` ``set_default_quant_scales``,
    ``layers/quantization/kv_cache.py`` ``BaseKVCacheMethod.create_weights``.

    Attributes:
        name: As vLLM names the layer; empty where the scales lie in the block itself.
        is_latent: ``MLAAttention``, which some methods give no scales.
    """

    name: str = "attn"
    is_latent: bool = False

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Four buffers of one element, and what a quantised checkpoint may bring."""
        inside = place.at(self.name)
        for scale in ("_k_scale", "_v_scale", "_q_scale", "_prob_scale"):
            yield inside.tensor(scale, (), "float32")
        for suffix, shape, dtype in place.rank.quantization.attention(is_latent=self.is_latent):
            yield inside.tensor(suffix, shape, dtype)
