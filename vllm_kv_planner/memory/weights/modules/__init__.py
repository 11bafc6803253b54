"""vLLM's layers as far as their tensors go; names follow ``vllm/model_executor/layers``."""

from .embedding import LMHead, TokenEmbedding
from .experts import RoutedExperts
from .linear import Linear, QKVLinear
from .module import Block, Module
from .plain import AttentionScales, Norm, Weight
from .rotary import Rotary

__all__ = [
    "AttentionScales",
    "Block",
    "LMHead",
    "Linear",
    "Module",
    "Norm",
    "QKVLinear",
    "Rotary",
    "RoutedExperts",
    "TokenEmbedding",
    "Weight",
]
