"""What a quantisation method answers: which tensors a layer holds.

Source: vLLM 0.33 ``layers/quantization/base_config.py``: ``QuantizationConfig.get_quant_method``
picks a method by the layer's name, ``create_weights`` of the method registers tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ....records import dataclass

Spec = tuple[str, tuple[int, ...], str]
"""A tensor's name, shape and dtype."""


@dataclass(frozen=True)
class LinearShape:
    """A linear layer's share on one rank.

    Attributes:
        outputs: Rows, one number per merged matrix.
        dtype: Of weights that are not quantised, and of scales that follow them.
    """

    inputs: int
    outputs: tuple[int, ...]
    dtype: str

    @property
    def rows(self) -> int:
        """Of all merged matrices."""
        return sum(self.outputs)


@dataclass(frozen=True)
class ExpertsShape:
    """The routed experts' share on one rank.

    Attributes:
        intermediate: Width inside an expert, here.
        shards: Matrices merged in the first product: 2 with a gate, 1 without.
        dtype: Of weights that are not quantised.
    """

    num_experts: int
    hidden: int
    intermediate: int
    shards: int
    bias: bool
    dtype: str


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


class StoredAlike:
    """A method that stores an expert's two products as it stores linear layers."""

    def linear(self, shape: LinearShape) -> Sequence[Spec]:
        """Tensors of a layer, its bias apart."""
        raise NotImplementedError

    def experts(self, shape: ExpertsShape) -> Sequence[Spec]:
        """Every tensor of both products, ``w13_…`` and ``w2_…``, of all experts at once."""
        first = LinearShape(shape.hidden, (shape.intermediate,) * shape.shards, shape.dtype)
        second = LinearShape(shape.intermediate, (shape.hidden,), shape.dtype)
        return [
            (f"{product}_{suffix}", (shape.num_experts, *dimensions), dtype)
            for both in zip(self.linear(first), self.linear(second), strict=True)
            for product, (suffix, dimensions, dtype) in zip(("w13", "w2"), both, strict=True)
        ]


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
NOTHING: Mapping[str, Any] = {}


class Quantization:
    """No quantisation; the base of all others. A method of None is an unquantised layer."""

    name: str | None = None
    description = "unquantised"
    keeps_zeros = True
    """Zero points stay once weights are loaded, see ``estimate.processed``."""
    lists_no_exceptions = False
    """Where published checkpoints of its kind list layers that are not quantised."""

    def __init__(self, config: Mapping[str, Any] = NOTHING, *, is_composite: bool = False) -> None:
        """Reads a checkpoint's ``quantization_config``; names are mapped in composite models."""

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
