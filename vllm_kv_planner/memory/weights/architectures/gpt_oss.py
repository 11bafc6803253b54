"""gpt-oss: attention with sinks, experts in every layer.

Source: vLLM 0.33 ``models/gpt_oss.py``.
"""

from __future__ import annotations

from ..modules import Weight
from .attention import attention
from .decoder import assemble
from .facts import Facts
from .feed_forward import moe
from .ropes import rotary
from .tree import WeightTree


def gpt_oss(facts: Facts) -> WeightTree:
    """Every layer alike; the rotary cache is float32."""
    block = attention(
        facts,
        rope=rotary(facts, facts.head_size, dtype="float32"),
        extra=(Weight("sinks", (facts.heads,), sharded=0),),
    )
    experts = moe(facts, facts.options["moe"])
    return assemble(facts, lambda index: (block, experts))
