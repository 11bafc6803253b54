"""Facts that vLLM asks of any config, wherever they are written in it.

Source: vLLM 0.33 ``transformers_utils/model_arch_config_convertor.py``
``ModelArchConfigConvertorBase``, ``config/model_arch.py`` ``ModelArchitectureConfig.from_layers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ...errors import ConfigError
from ..config import Config

EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")

LATENT_TYPES = frozenset(
    {
        "axk1",
        "bailing_hybrid",
        "bailing_hybrid_mtp",
        "bailing_hybrid_v3_mtp",
        "deepseek_mtp",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "deepseek_v4",
        "deepseek_v41",
        "dots3_note",
        "glm4_moe_lite",
        "glm4_moe_lite_mtp",
        "glm5_next",
        "glm5_next_text",
        "glm_moe_dsa",
        "hy_v4",
        "hy_v4_mtp",
        "k3_dspark",
        "kimi_k2",
        "kimi_linear",
        "longcat_flash",
        "pangu_ultra_moe",
        "pangu_ultra_moe_mtp",
    }
)
"""Text model types that vLLM runs with latent attention (``is_deepseek_mla``)."""


def largest(text: Config, fact: Callable[[Config], int]) -> int:
    """A fact of the whole model: the largest layer's, where layers differ."""
    variants = {repr(sorted(layer.data.items())): layer for layer in layer_overrides(text)}
    facts = [fact(of_layer(text, layer)) for layer in variants.values()]
    return max(facts, default=fact(text)) if facts else fact(text)


def layer_overrides(text: Config) -> Iterator[Config]:
    """What ``per_layer_config`` says of single layers, and once the rest if there is one."""
    layers = text.opt_sub("per_layer_config")
    if layers is None:
        return
    if len(layers.data) < text.int("num_hidden_layers", default=0, minimum=0):
        yield Config({}, text.where)
    for index in layers.data:
        yield layers.sub(index)


def of_layer(text: Config, override: Config | None) -> Config:
    """The config with one layer's own values in it."""
    if override is None or not override.data:
        return text
    return Config({**text.data, **override.data}, text.where, prefix=text.prefix)


def compress_ratios(text: Config) -> Sequence[int]:
    """Compression of each layer's latents (DeepSeek-V4)."""
    return text.list_of_ints("compress_ratios", default=())


def is_latent(text: Config) -> bool:
    """Whether vLLM counts the model as latent attention (``is_deepseek_mla``)."""
    if text.opt_str("model_type") not in LATENT_TYPES:
        return False
    return text.get("head_dim" if compress_ratios(text) else "kv_lora_rank") is not None


def num_experts(text: Config) -> int:
    """Routed experts; some configs list them per modality or per block.

    The first key there is answers, null or not (``getattr_iter``).
    """
    key = next((key for key in EXPERTS if key in text.data), EXPERTS[0])
    value = text.get(key)
    if isinstance(value, list):
        value = value[0] if value else 0
    if value:
        return value if isinstance(value, int) else text.int(key, minimum=0)
    blocks = text.get("block_configs")
    if not isinstance(blocks, list):
        return 0
    routed = [block.get("n_routed_experts", 0) for block in blocks if isinstance(block, Mapping)]
    return max((count for count in routed if isinstance(count, int)), default=0)


def config_dtype(top: Config, text: Config) -> str | None:
    """The checkpoint's dtype, wherever the config names it (``get_torch_dtype``)."""
    for config in (top, text, top.opt_sub("vision_config"), top.opt_sub("encoder_config")):
        named = None if config is None else config.get("dtype", "torch_dtype")
        if isinstance(named, str):
            return named.removeprefix("torch.")
        if named is not None:
            raise ConfigError(f"{top.where}: dtype must be a string")
    return None
