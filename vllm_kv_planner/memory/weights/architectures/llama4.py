"""Llama 4: experts with one shared beside them, in every layer or every other.

Source: vLLM 0.33 ``models/llama4.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..modules import Module
from .attention import attention
from .decoder import assemble
from .facts import Facts
from .feed_forward import is_sparse, mlp, moe
from .tree import WeightTree


def llama4(facts: Facts) -> WeightTree:
    """Dense layers are wider than an expert (``intermediate_size_mlp``)."""
    options = facts.options["moe"]
    block = attention(facts)
    dense = mlp(facts, width=facts.text.int("intermediate_size_mlp", "intermediate_size"))
    experts = moe(facts, options)

    def layer(index: int) -> Sequence[Module]:
        return (block, experts if is_sparse(facts, options, index) else dense)

    return assemble(facts, layer)
