"""What an architecture rule reads: the config, its language model, and the table's row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...records import dataclass
from ..config import Config


@dataclass(frozen=True, kw_only=True)
class ModelReader:
    """One model in front of a rule.

    Attributes:
        top: The whole config.
        text: The language model's part of it (the whole config where nothing is nested), with
            the transformers class's defaults behind it.
        options: The architecture table's row for this architecture.
        num_hidden_layers: Decoder layers.
        num_attention_heads: Query heads; 0 where there are none.
        num_kv_heads: KV heads by vLLM's general rule.
        head_size: Head width by vLLM's general rule.
        layer_types: Type of each decoder layer, where the config's class has such a list.
        model_window: Window of layers that have none of their own: ``cache_config.sliding_window``.
        is_causal: False for models turned into encoders (``is_causal`` of the config).
        use_mm_prefix: Images attend in both directions.
    """

    top: Config
    text: Config
    options: Mapping[str, Any]
    num_hidden_layers: int
    num_attention_heads: int
    num_kv_heads: int
    head_size: int
    layer_types: tuple[str, ...] | None = None
    model_window: int | None = None
    is_causal: bool = True
    use_mm_prefix: bool = False

    def type_of(self, index: int) -> str:
        """Type of one decoder layer; full attention where the config has no list."""
        if not self.layer_types:
            return "full_attention"
        if index >= len(self.layer_types):
            count = len(self.layer_types)
            raise self.text.error("layer_types", f"names {count} layers, there is a layer {index}")
        return self.layer_types[index]

    @property
    def window(self) -> int | None:
        """The config's window, in tokens."""
        return self.text.opt_int("sliding_window")
