"""What rules share: the list of block types, and the cache layers of each type of block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...errors import UnsupportedError
from ...records import replace
from ..class_rules import LEGACY_LAYER_TYPES
from ..description import ModelReader
from ..layers.attention import Attention
from ..layers.base import CacheLayer
from ..layers.latent import LatentAttention

MakeLayers = Callable[[int], Iterable[CacheLayer]]
"""Index of a decoder layer to the cache layers vLLM builds in it, in order."""


def block_types(model: ModelReader, *keys: str, default: Sequence[str] | None = None) -> list[str]:
    """Type of every decoder block, in today's names; by default under ``layer_types``."""
    keys = keys or ("layer_types", "layers_block_type")
    listed = model.text.list_of_strs(*keys, default=default)
    if len(listed) < model.num_hidden_layers:
        raise model.text.error(
            keys[0], f"lists {len(listed)} of the {model.num_hidden_layers} layers"
        )
    return [LEGACY_LAYER_TYPES.get(kind, kind) for kind in listed[: model.num_hidden_layers]]


def every_nth(count: int, interval: int, nth: str, others: str) -> list[str]:
    """Block types where every ``interval``-th, counted from one, is ``nth``."""
    return [others if (index + 1) % interval else nth for index in range(count)]


def by_type(
    model: ModelReader, types: Iterable[str], make: Mapping[str, MakeLayers]
) -> list[CacheLayer]:
    """The cache layers of a decoder whose blocks are of these types, in order.

    Raises:
        ConfigError: More or fewer types than layers.
        UnsupportedError: A type the architecture does not have.
    """
    types, count = list(types), model.num_hidden_layers
    if len(types) != count:
        raise model.text.error(
            "num_hidden_layers", f"is {count}, the types of {len(types)} layers are given"
        )
    layers: list[CacheLayer] = []
    for index, kind in enumerate(types):
        if kind not in make:
            known = ", ".join(make)
            raise UnsupportedError(
                f"{model.text.where}: layer {index} is of type {kind[:40]!r}, not one of {known}"
            )
        layers.extend(make[kind](index))
    return layers


def hybrid(
    model: ModelReader, types: Iterable[str], full: CacheLayer, linear: CacheLayer
) -> list[CacheLayer]:
    """A decoder of attention and states: one of these in every block."""
    make = {"full_attention": repeated(full), "linear_attention": repeated(linear)}
    return by_type(model, types, make)


def no_cache(index: int) -> Iterable[CacheLayer]:
    """A block without a cache: MLP, experts."""
    return ()


def repeated(*templates: CacheLayer) -> MakeLayers:
    """The same cache layers in every block."""
    return lambda index: [replace(template, index=index) for template in templates]


def everywhere(model: ModelReader, *templates: CacheLayer) -> list[CacheLayer]:
    """The same cache layers in every decoder layer."""
    make = repeated(*templates)
    return [layer for index in range(model.num_hidden_layers) for layer in make(index)]


def attention(model: ModelReader, *, head_size: int | None = None) -> Attention:
    """Full attention with the config's head counts; the head width by vLLM's general rule."""
    return Attention(
        num_heads=model.num_attention_heads,
        num_kv_heads=model.num_kv_heads,
        head_size=model.head_size if head_size is None else head_size,
    )


def latent(
    model: ModelReader,
    kind: type[LatentAttention] = LatentAttention,
    *,
    prefix: str = "",
    **own: Any,
) -> LatentAttention:
    """The latent attention the config describes, under keys with this prefix; ``own`` wins."""
    text = model.text
    parts = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    widths = {"prefill_widths": tuple(text.int(key, default=0, minimum=0) for key in parts)}
    return kind(
        num_heads=text.int(f"{prefix}num_attention_heads"),
        kv_lora_rank=text.int(f"{prefix}kv_lora_rank", default=512),
        qk_rope_head_dim=text.int(f"{prefix}qk_rope_head_dim", default=64, minimum=0),
        **{**widths, **own},
    )


def even_head_size(model: ModelReader) -> int:
    """Head width of classes that divide the hidden size, whatever ``head_dim`` says."""
    return model.text.int("hidden_size") // model.text.int("num_attention_heads")
