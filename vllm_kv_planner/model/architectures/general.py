"""Facts that vLLM asks of any config, and the exceptions by ``model_type``.

Source: vLLM 0.33 ``transformers_utils/model_arch_config_convertor.py``
``ModelArchConfigConvertorBase``, class by class, ``config/model_arch.py``
``ModelArchitectureConfig.from_layers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ...errors import ConfigError
from ..config import Config

EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")

LATENT_TYPES = frozenset(
    [
        *("axk1", "bailing_hybrid", "bailing_hybrid_mtp", "bailing_hybrid_v3_mtp"),
        *("deepseek_mtp", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4"),
        *("deepseek_v41", "dots3_note", "glm4_moe_lite", "glm4_moe_lite_mtp", "glm5_next"),
        *("glm5_next_text", "glm_moe_dsa", "hy_v4", "hy_v4_mtp", "k3_dspark", "kimi_k2"),
        *("kimi_linear", "longcat_flash", "pangu_ultra_moe", "pangu_ultra_moe_mtp"),
    ]
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


KV_HEADS = (
    "n_head_kv",
    "num_kv_heads",
    "num_key_value_heads",
    "multi_query_group_num",
    "num_attention_groups",
)
"""Keys that KV heads go by, first one present first."""

MM_PREFIX_TYPES = frozenset({"bagel", "gemma3", "molmo2", "moondream3", "paligemma"})
"""Models whose images attend in both directions, by ``model_type``."""


class Convertor:
    """vLLM's ``ModelArchConfigConvertorBase``: the general rule of each fact."""

    def num_hidden_layers(self, text: Config) -> int:
        """Decoder layers; 0 where the config says nothing of them, but null is no number."""
        if text.data.get("num_hidden_layers", 0) is None:
            raise text.refused("num_hidden_layers", None, "must be a whole number")
        return text.int("num_hidden_layers", default=0, minimum=0)

    def num_attention_heads(self, text: Config) -> int:
        """Query heads."""
        return text.int("num_attention_heads", default=0, minimum=0)

    def num_kv_heads(self, text: Config) -> int:
        """KV heads; as many as query heads where the config has none."""
        return text.int(*KV_HEADS, default=self.num_attention_heads(text), minimum=0)

    def head_size(self, text: Config) -> int:
        """Head width: latent plus rope, else as given, else hidden size over heads."""
        if is_latent(text):
            if compress_ratios(text):
                return text.int("head_dim")
            return text.int("kv_lora_rank") + text.int("qk_rope_head_dim", default=0, minimum=0)
        given = text.opt_int("head_dim", minimum=0) or text.opt_int("hidden_size_per_head")
        heads = self.num_attention_heads(text)
        return given or (text.int("hidden_size", default=0, minimum=0) // heads if heads else 0)

    def is_mm_prefix_lm(self, top: Config, text: Config) -> bool:
        """Whether images attend in both directions."""
        known = top.opt_str("model_type") in MM_PREFIX_TYPES
        return top.bool("is_mm_prefix_lm", default=known)


class _Falcon(Convertor):
    """One KV head, unless the newer decoder says how many."""

    def num_kv_heads(self, text: Config) -> int:
        newer = text.bool("new_decoder_architecture", default=False)
        if not newer and text.bool("multi_query", default=False):
            return 1
        return super().num_kv_heads(text)


class _Dbrx(Convertor):
    """KV heads are in ``attn_config``."""

    def num_kv_heads(self, text: Config) -> int:
        nested = text.opt_sub("attn_config")
        heads = self.num_attention_heads(text)
        return heads if nested is None else nested.int("kv_n_heads", default=heads)


class _NemotronNas(Convertor):
    """KV heads of the first layer with attention."""

    def num_kv_heads(self, text: Config) -> int:
        heads = self.num_attention_heads(text)
        for block in text.list_of_subs("block_configs"):
            attention = block.sub("attention")
            if not attention.bool("no_op", default=False):
                return heads // attention.int("n_heads_in_group")
        raise text.error("block_configs", "has no layer with attention")


class _AttentionFree(Convertor):
    """States only: no heads."""

    def num_kv_heads(self, text: Config) -> int:
        return 0

    def head_size(self, text: Config) -> int:
        return 0


class _Zamba2(Convertor):
    """Heads of attention blocks have their own width."""

    def head_size(self, text: Config) -> int:
        return text.int("attention_head_dim", default=0, minimum=0)


class _LongcatFlash(Convertor):
    """``num_hidden_layers`` counts attention sublayers, two per decoder layer."""

    def num_hidden_layers(self, text: Config) -> int:
        return text.int("num_layers")


class _CohereAsr(Convertor):
    """The decoder is nested in ``transf_decoder.config_dict``."""

    def num_attention_heads(self, text: Config) -> int:
        return self.decoder(text).int("num_attention_heads")

    def num_kv_heads(self, text: Config) -> int:
        return self.num_attention_heads(text)

    def head_size(self, text: Config) -> int:
        return self.decoder(text).int("hidden_size") // self.num_attention_heads(text)

    def decoder(self, text: Config) -> Config:
        return text.sub("transf_decoder").sub("config_dict")


class _Gemma4(Convertor):
    """Images attend in both directions where the language model says so."""

    def is_mm_prefix_lm(self, top: Config, text: Config) -> bool:
        return bool(text.get("use_bidirectional_attention") == "vision")


class _DeepseekV4(Convertor):
    """Images attend in both directions where there is a vision tower."""

    def is_mm_prefix_lm(self, top: Config, text: Config) -> bool:
        return top.int("vision_n_layers", default=0, minimum=0) > 0


_CONVERTORS: Mapping[str, Convertor] = {
    **dict.fromkeys(("falcon", "RefinedWeb", "RefinedWebModel"), _Falcon()),
    "dbrx": _Dbrx(),
    "nemotron-nas": _NemotronNas(),
    **dict.fromkeys(("mamba", "falcon_mamba", "timm_wrapper"), _AttentionFree()),
    "zamba2": _Zamba2(),
    "longcat_flash": _LongcatFlash(),
    "cohere_asr": _CohereAsr(),
    **dict.fromkeys(("gemma4", "gemma4_unified", "diffusion_gemma"), _Gemma4()),
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text", "diffusion_gemma_text"), _Gemma4()),
    "deepseek_v4": _DeepseekV4(),
}
_GENERAL = Convertor()


def convertor(model_type: str) -> Convertor:
    """The rules for one ``model_type``."""
    return _CONVERTORS.get(model_type, _GENERAL)
