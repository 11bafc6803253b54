"""Mamba 2's input projection and convolution: heads are divided, groups perhaps replicated.

Source: vLLM 0.33 ``layers/mamba/mamba_mixer2.py``, ``mamba_utils.py``
``extra_groups_for_head_shards``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ....records import dataclass
from ..quantization.base import LinearShape
from ..rank import Place
from ..tensor import Tensor


def groups_per_rank(groups: int, tensor_parallel_size: int) -> int:
    """Groups on each GPU; those that do not divide are replicated."""
    return max(1, groups // tensor_parallel_size)


@dataclass(frozen=True)
class GroupedLinear:
    """``in_proj``: gate and inputs, B and C by group, a step per head.

    Attributes:
        name: As vLLM names it.
        inputs: Width of the hidden state.
        divided: Widths divided by heads.
        groups: Of B and C.
        group_width: Of one group's B and C together.
        heads: Of the layer.
        bias: Whether it has one.
    """

    name: str
    inputs: int
    divided: tuple[int, ...]
    groups: int
    group_width: int
    heads: int
    bias: bool = False

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weights by the quantisation method's rule, and the bias."""
        inside = place.at(self.name)
        size = place.rank.tensor_parallel_size
        half = groups_per_rank(self.groups, size) * self.group_width // 2
        outputs = (*(width // size for width in self.divided), half, half, self.heads // size)
        shape = LinearShape(
            inside.prefix, self.inputs, outputs, self.inputs, sum(outputs) * size, place.rank.dtype
        )
        method = place.rank.quantization.linear(inside.prefix)
        if method is None:
            yield inside.tensor("weight", (sum(outputs), self.inputs))
        else:
            for suffix, dimensions, dtype in method.linear(shape):
                yield inside.tensor(suffix, dimensions, dtype)
        if self.bias:
            yield inside.tensor("bias", (sum(outputs),))


@dataclass(frozen=True)
class GroupedConv:
    """``conv1d`` over inputs, B and C.

    Attributes:
        name: As vLLM names it.
        divided: Width divided by heads.
        groups: Of B and C.
        group_width: Of one group's B and C together.
        kernel: Its length.
        bias: Whether it has one.
    """

    name: str
    divided: int
    groups: int
    group_width: int
    kernel: int
    bias: bool

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weight and bias, in the engine's dtype."""
        size = place.rank.tensor_parallel_size
        inside = place.at(self.name)
        width = self.divided // size + groups_per_rank(self.groups, size) * self.group_width
        yield inside.tensor("weight", (width, 1, self.kernel))
        if self.bias:
            yield inside.tensor("bias", (width,))
