"""What a quantisation method answers: which tensors a layer holds.

Source: vLLM 0.33 ``layers/quantization/base_config.py``: ``QuantizationConfig.get_quant_method``
picks a method by the layer's name, ``create_weights`` of the method registers tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ....records import dataclass

Spec = tuple[str, tuple[int, ...], str]
"""A tensor's name, shape and dtype."""


@dataclass(frozen=True)
class LinearShape:
    """A linear layer's share on one rank.

    Attributes:
        prefix: Its name, from the model down.
        inputs: Columns here.
        outputs: Rows here, one number per merged matrix.
        whole_inputs: Columns of the whole layer.
        whole_outputs: Rows of the whole layer, all matrices together.
        dtype: Of weights that are not quantised, and of scales that follow them.
    """

    prefix: str
    inputs: int
    outputs: tuple[int, ...]
    whole_inputs: int
    whole_outputs: int
    dtype: str


@dataclass(frozen=True)
class ExpertsShape:
    """The routed experts' share on one rank.

    Attributes:
        prefix: Their name, from the model down.
        num_experts: Held here.
        hidden: Width of the hidden state.
        intermediate: Width inside an expert, here.
        shards: Matrices merged in the first product: 2 with a gate, 1 without.
        bias: Whether experts have biases.
        dtype: Of weights that are not quantised.
        whole_intermediate: Width inside an expert before tensor parallelism.
    """

    prefix: str
    num_experts: int
    hidden: int
    intermediate: int
    shards: int
    bias: bool
    dtype: str
    whole_intermediate: int


class LinearMethod(Protocol):
    """``LinearMethodBase``."""

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Tensors of a layer, its bias apart."""
        ...


class ExpertsMethod(Protocol):
    """``FusedMoEMethodBase``."""

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Tensors of the routed experts, biases included."""
        ...


@dataclass(frozen=True)
class UnquantizedExperts:
    """``UnquantizedFusedMoEMethod``.

    Attributes:
        align_intermediate: What the kernel rounds an expert's width up to.
    """

    align_intermediate: int = 1

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Two matrices an expert, and biases."""
        width = -(-shape.intermediate // self.align_intermediate) * self.align_intermediate
        return [
            ("w13_weight", (shape.num_experts, shape.shards * width, shape.hidden), shape.dtype),
            ("w2_weight", (shape.num_experts, shape.hidden, width), shape.dtype),
            *expert_biases(shape, width, shape.hidden, shape.dtype),
        ]


def expert_biases(
    shape: ExpertsShape, intermediate: int, hidden: int, dtype: str
) -> Sequence[Spec]:
    """Biases of experts that have them."""
    if not shape.bias:
        return []
    return [
        ("w13_bias", (shape.num_experts, shape.shards * intermediate), dtype),
        ("w2_bias", (shape.num_experts, hidden), dtype),
    ]


PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


class Quantization:
    """No quantisation; the base of all others. A method of None is an unquantised layer."""

    name: str | None = None
    description = "unquantised"
    keeps_zeros = True
    """Zero points stay once weights are loaded, see ``estimate.processed``."""

    def linear(self, prefix: str) -> LinearMethod | None:
        """Method of the linear layer of this name."""
        return None

    def lm_head(self, prefix: str) -> LinearMethod | None:
        """Method of the output embedding."""
        return None

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Method of routed experts; ``projections`` are the checkpoint's names of an expert's."""
        return UnquantizedExperts()

    def attention(self, *, is_latent: bool) -> Sequence[Spec]:
        """What the KV cache method registers beside attention's own scales."""
        return ()
