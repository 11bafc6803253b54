"""What a model is, as far as planning goes: what an architecture rule reads, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from ..records import dataclass, field, fields
from .config import Config
from .layers.base import CacheLayer


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


ItemRule = Literal["lifts", "must fit", "is cut"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelDescription:
    """Facts about one model, read from its config alone.

    Attributes:
        architecture: First of the config's ``architectures`` that has a rule.
        config: The whole config, overrides in it.
        text_config: The config of the language model inside (the whole one for text models).
        layers: Cache layers in the order vLLM builds them.
        num_hidden_layers: Decoder layers, with or without cache: what pipeline stages divide.
        num_attention_heads: Query heads; 0 for attention-free models.
        num_kv_heads: KV heads of the whole model, as ``ModelConfig.get_total_num_kv_heads``.
        head_size: As vLLM's ``ModelConfig.get_head_size`` (MLA: latent plus rope).
        hidden_size: Width of the residual stream.
        vocab_size: Rows of the embedding.
        dtype: The checkpoint's dtype as the config names it; None where it names none.
        is_hybrid: Attention and states (vLLM's ``IsHybrid``).
        is_attention_free: States only.
        is_multimodal: vLLM's multimodal interface.
        is_encoder_decoder: Whisper and the like.
        is_moe: Has experts.
        use_mla: Latent attention.
        is_mm_prefix_lm: Images attend in both directions.
        item_rule: What an image larger than a step's default does then: lifts it, is refused,
            or goes in pieces. Older versions have other rules.
        absent_backends: Attention backends that the engine's version does not have yet.
        runner_type: ``generate`` or ``pooling``.
        supports_pp: Whether vLLM's class can be cut into pipeline stages.
        default_mamba_ssm_cache_dtype: What the model's own config rule sets under ``auto``.
        removed_in: Last vLLM version that had the architecture, when 0.33 has it no more.
        unstated_quantization: What the model's name says of its weights and its config does not.
        notes: Sentences for the reader of the plan.
        reader: What the rule of its layers read; None for models made by hand.
    """

    architecture: str
    config: Mapping[str, Any]
    text_config: Mapping[str, Any]
    layers: tuple[CacheLayer, ...]
    num_hidden_layers: int
    num_attention_heads: int
    num_kv_heads: int
    head_size: int
    hidden_size: int
    vocab_size: int
    dtype: str | None = None
    is_hybrid: bool = False
    is_attention_free: bool = False
    is_multimodal: bool = False
    is_encoder_decoder: bool = False
    is_moe: bool = False
    use_mla: bool = False
    is_mm_prefix_lm: bool = False
    item_rule: ItemRule = "lifts"
    absent_backends: tuple[str, ...] = ()
    runner_type: str = "generate"
    supports_pp: bool = True
    default_mamba_ssm_cache_dtype: str = "auto"
    removed_in: str | None = None
    unstated_quantization: str | None = None
    notes: tuple[str, ...] = field(default=())
    reader: ModelReader | None = None

    @cached_property
    def plain_variants(self) -> tuple[tuple[int, bool], ...]:
        """For every layer its kind, and that its KV cache follows the engine's dtype."""
        return tuple((kind, False) for kind in self.kind_of_layer)

    @cached_property
    def first_of_kind(self) -> Mapping[tuple[int, bool], CacheLayer]:
        """The first layer of every kind."""
        found: dict[tuple[int, bool], CacheLayer] = {}
        for variant, layer in zip(self.plain_variants, self.layers, strict=True):
            found.setdefault(variant, layer)
        return found

    @cached_property
    def kind_of_layer(self) -> tuple[int, ...]:
        """For every layer the number of its kind: layers alike in all but their index share one."""
        numbers: dict[tuple[object, ...], int] = {}
        return tuple(numbers.setdefault(kind_key(layer), len(numbers)) for layer in self.layers)


def kind_key(layer: CacheLayer) -> tuple[object, ...]:
    """What a layer is, wherever it stands."""
    own = (getattr(layer, each.name) for each in fields(layer) if each.name != "index")
    return (type(layer), *own)
