"""One rank of the engine: what decides how much of every layer it holds, and its tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...records import dataclass, replace

if TYPE_CHECKING:
    from .quantization.base import Quantization


BYTES = {
    "complex64": 8,
    "float64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "bfloat16": 2,
    "float16": 2,
    "int16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e8m0fnu": 1,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of an element, by torch's names."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that one rank holds.

    Attributes:
        name: As vLLM names it, from the model down: ``model.layers.0.mlp.down_proj.weight``.
        part: What it belongs to, for the reader of the plan: ``attention``, ``experts`` ...
        shared: Set where several modules hold the same tensor, which counts once per rank.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    part: str
    shared: object | None = None

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class Rank:
    """A GPU's share of the model.

    Attributes:
        tensor_parallel_size: GPUs that share every layer.
        expert_parallel_size: GPUs that divide the experts among them; 1 without
            ``--enable-expert-parallel``, where tensor parallelism cuts through every expert.
        beside: Groups of such GPUs that run the experts together, by data or prefill-context
            parallelism.
        compute_capability: (9, 0) for Hopper: some kernels pad what they are given.
        split_limited: Loaded with a limit on what the allocator splits, see
            ``VersionRules.loads_split_limited``.
        vit_tensor_parallel_size: GPUs that share the vision tower; 1 where every GPU holds all
            of it (``--mm-encoder-tp-mode data``).
        absorbs: Latent attention multiplies by ``kv_b_proj``'s halves in the model's dtype.
    """

    dtype: str
    quantization: Quantization
    tensor_parallel_size: int = 1
    expert_parallel_size: int = 1
    beside: int = 1
    num_redundant_experts: int = 0
    compute_capability: tuple[int, int] = (9, 0)
    moe_backend: str = "auto"
    vit_tensor_parallel_size: int = 1
    version: tuple[int, int] = (0, 33)
    split_limited: bool = False
    absorbs: bool = False

    @property
    def experts_cut_by(self) -> int:
        """GPUs that share every single expert: all of them, or none under expert parallelism.

        Source: vLLM 0.33 ``layers/fused_moe/config.py`` ``FusedMoEParallelConfig.make``.
        """
        return 1 if self.expert_parallel_size > 1 else self.tensor_parallel_size * self.beside

    def for_tower(self, heads: int = 0) -> Rank:
        """The rank as a tower sees it; ``heads`` that do not divide keep it whole."""
        size = self.vit_tensor_parallel_size
        if heads % size:
            size = 1
        return (
            self if size == self.tensor_parallel_size else replace(self, tensor_parallel_size=size)
        )


@dataclass(frozen=True)
class Place:
    """Where in the tree of modules, and on which rank."""

    rank: Rank
    prefix: str = ""
    part: str = "other"

    def at(self, name: str, part: str | None = None) -> Place:
        """One module further down."""
        prefix = f"{self.prefix}.{name}" if self.prefix and name else self.prefix or name
        return Place(self.rank, prefix, part or self.part)

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str | None = None,
        shared: object | None = None,
    ) -> Tensor:
        """A tensor of the module at this place, in the engine's dtype where none is given."""
        full = f"{self.prefix}.{name}" if name and self.prefix else self.prefix or name
        return Tensor(full, shape, dtype or self.rank.dtype, self.part, shared)
