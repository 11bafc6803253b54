"""What the defaults and the attention backends look up of the model: small records.

Restates of pooling models in vLLM 0.33: ``PoolerConfig.__post_init__`` (vllm/config/pooler.py), the
pooler's part of ``ModelConfig.__post_init__`` (vllm/config/model.py), and the
``default_pooling_type`` and ``attn_type`` decorators of the models. Sentence-transformers' own
files are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files.json_file import read_json
from ..gpu.gpu import Platform
from ..model.config import Config
from ..model.defaults import largest_item
from ..model.description import ItemRule, ModelDescription
from ..model.layers.attention import Attention
from ..records import dataclass, field
from .attention_backend import EngineFacts, Preferences, preferences_of
from .engine_args import EngineArgs
from .quantization import resolve_quantization

if TYPE_CHECKING:
    from ..model.draft import Draft


@dataclass(frozen=True, kw_only=True)
class PoolingFacts:
    """How a pooling model pools (vLLM's PoolerConfig after its defaults)."""

    seq_pooling_type: str = "LAST"
    """CLS, LAST or MEAN: the user's, else sentence-transformers', else the model's."""
    tok_pooling_type: str = "ALL"
    """ALL or STEP."""
    default_seq_pooling_type: str = "LAST"
    """The model class's own; CLS means it attends in both directions."""
    attn_type: str = "decoder"
    """The model class's: decoder, encoder_only …"""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model as the engine's defaults see it. Names follow vLLM's ModelConfig."""

    architecture: str
    model_type: str
    """``model_type`` of the whole config."""
    config: Mapping[str, Any] = field(hash=False)
    """The whole config.json, ``--hf-overrides`` applied."""
    text_config: Mapping[str, Any] = field(hash=False)
    """The language model's part of it (the whole for text models)."""
    runner_type: str = "generate"
    """generate, pooling or draft."""
    pooling: PoolingFacts | None = None
    """Set for pooling models."""
    quantization: str | None = None
    """Resolved method: the flag's, else the checkpoint's ``quant_method``."""
    num_hidden_layers: int
    num_attention_heads: int
    """0 for attention-free models."""
    num_kv_heads: int
    """Of the whole model, before tensor parallelism."""
    vocab_size: int = 0
    is_hybrid: bool = False
    is_attention_free: bool = False
    is_encoder_decoder: bool = False
    is_multimodal: bool = False
    is_mm_prefix_lm: bool = False
    """Images attend in both directions (Gemma 3, PaliGemma …), and images are allowed."""
    is_moe: bool = False
    is_diffusion: bool = False
    use_mla: bool = False
    supports_pp: bool = True

    @property
    def quantization_config(self) -> Mapping[str, Any] | None:
        """The checkpoint's, from the whole config as ``resolve_kv_cache_dtype_string`` reads it."""
        value = self.config.get("quantization_config")
        return value if isinstance(value, Mapping) else None

    @property
    def attn_type(self) -> str:
        """decoder, encoder_only, hybrid, attention_free, encoder_decoder or the pooler's own.

        As ``ModelConfig.attn_type`` (vllm/config/model.py, 0.33).
        """
        if self.pooling is not None:
            if self.pooling.default_seq_pooling_type == "CLS":
                return "encoder_only"
            causal = self.config.get("is_causal", True)
            return self.pooling.attn_type if causal else "encoder_only"
        if self.is_hybrid:
            return "hybrid"
        if self.is_attention_free:
            return "attention_free"
        return "encoder_decoder" if self.is_encoder_decoder else "decoder"


@dataclass(frozen=True, kw_only=True)
class OutsideFacts:
    """What neither flags nor config.json tell; None and the defaults where nobody looked."""

    checkpoint_dtype: str | None = None
    """Of the safetensors headers, for configs that name no dtype."""
    tokenizer_max_length: int | None = None
    """``model_max_length`` of the tokenizer: pooling models with absolute positions only."""
    encoder_max_seq_length: int | None = None
    """``max_seq_length`` of sentence-transformers' config."""
    min_mm_tokens: int | None = None
    """Largest single image, video or audio in tokens: multimodal prefix-LM models only."""
    shown_mm_tokens: int | None = None
    """The same of the kinds that ``--limit-mm-per-prompt`` leaves: a step must hold it."""
    draft: Draft | None = None
    """What drafts, where its layers keep a cache."""


_SEQUENCE, _TOKEN = ("CLS", "LAST", "MEAN"), ("ALL", "STEP")


def pooling_facts(
    architecture: str, runner_type: str, pooler_config: Mapping[str, Any] | None
) -> PoolingFacts | None:
    """How the model pools; None for models that generate.

    Raises InputError for a ``--pooler-config`` that vLLM refuses.
    """
    if runner_type != "pooling":
        return None
    classes = read_json(__file__, "pooling.json")
    default = next((kind for kind in ("CLS", "MEAN") if architecture in classes[kind]), "LAST")
    asked = _asked(pooler_config or {})
    step = "STEP" if architecture in classes["STEP"] else "ALL"
    return PoolingFacts(
        seq_pooling_type=asked.get("seq_pooling_type") or default,
        tok_pooling_type=asked.get("tok_pooling_type") or step,
        default_seq_pooling_type=default,
        attn_type="encoder_only" if architecture in classes["both directions"] else "decoder",
    )


def _asked(pooler_config: Mapping[str, Any]) -> dict[str, str]:
    both = pooler_config.get("pooling_type")
    found: dict[str, str] = {}
    for key, valid in (("seq_pooling_type", _SEQUENCE), ("tok_pooling_type", _TOKEN)):
        own = pooler_config.get(key)
        if both is not None and own is not None:
            raise InputError(f"--pooler-config: Cannot set both `pooling_type` and `{key}`")
        value = both if both in valid else own
        if value is None:
            continue
        if value not in valid:
            raise InputError(f"--pooler-config: {key} {value!s:.40}; valid: {', '.join(valid)}")
        found[key] = value
    if both is not None and not found:
        words = ", ".join((*_SEQUENCE, *_TOKEN))
        raise InputError(f"--pooler-config: pooling_type {both!s:.40}; valid: {words}")
    return found


ALIBI = frozenset({"BloomForCausalLM", "Step1ForCausalLM"})
"""Architectures whose attention always has ALiBi slopes; Falcon's config says whether.

Source: vLLM 0.33 ``model_executor/models`` ``bloom.py``, ``step1.py``, ``falcon.py``.
"""


def model_facts(args: EngineArgs, model: ModelDescription) -> ModelFacts:
    """The model as the engine's defaults see it."""
    config = model.config
    return ModelFacts(
        model_type=str(config.get("model_type", "")),
        pooling=pooling_facts(model.architecture, model.runner_type, args.pooler_config),
        quantization=resolve_quantization(
            args.quantization,
            config,
            architecture=model.architecture,
            allow_deprecated=args.allow_deprecated_quantization,
        ),
        is_diffusion=config.get("canvas_length") is not None,
        **{name: getattr(model, name) for name in _OF_MODEL},
    )


_OF_MODEL = (
    *("architecture", "config", "text_config", "runner_type", "num_hidden_layers"),
    *("num_attention_heads", "num_kv_heads", "vocab_size", "is_hybrid", "is_attention_free"),
    *("is_encoder_decoder", "is_multimodal", "is_mm_prefix_lm", "is_moe", "use_mla"),
    "supports_pp",
)
"""What is the same of the description."""


def outside_facts(args: EngineArgs, facts: ModelFacts, item_rule: ItemRule) -> OutsideFacts:
    """What the model's own class says beside its config."""
    if not facts.is_mm_prefix_lm or not facts.is_multimodal or item_rule == "is cut":
        return OutsideFacts()
    stated = (facts.architecture, facts.config, args.limit_mm_per_prompt, args.mm_processor_kwargs)
    return OutsideFacts(
        min_mm_tokens=largest_item(*stated) if item_rule == "lifts" else None,
        shown_mm_tokens=largest_item(*stated, shown=not args.enable_mm_embeds),
    )


def attention_preferences(
    args: EngineArgs,
    model: ModelDescription,
    *,
    kv_cache_dtype: str,
    capability: tuple[int, int],
    platform: Platform,
) -> Preferences:
    """The attention backend that the user, else the model's own config rule, asks for."""
    config = args.attention_config
    return preferences_of(
        Preferences(
            backend=args.attention_backend or config.get("backend"),
            flash_attn_version=config.get("flash_attn_version"),
            use_non_causal=bool(config.get("use_non_causal")),
        ),
        architecture=model.architecture,
        head_sizes={
            layer.head_size
            for layer in model.first_of_kind.values()
            if isinstance(layer, Attention)
        },
        capability=capability,
        kv_cache_dtype=kv_cache_dtype,
        platform=platform,
    )


def engine_facts(
    args: EngineArgs,
    facts: ModelFacts,
    model: ModelDescription,
    *,
    kv_cache_dtype: str,
    preferences: Preferences,
    rocm: tuple[int, int] | None = None,
    xpu: bool = False,
) -> EngineFacts:
    """What some attention backends look up beside the layer's own request."""
    text = Config(model.text_config, "config.json")
    return EngineFacts(
        head_size=model.head_size,
        num_attention_heads=model.num_attention_heads // args.tensor_parallel_size,
        num_kv_heads=kv_heads_per_rank(
            model.num_kv_heads, args.tensor_parallel_size, use_mla=model.use_mla
        ),
        kv_cache_dtype=kv_cache_dtype,
        logits_soft_cap=text.get("attn_logit_softcapping") is not None,
        alibi=model.architecture in ALIBI or text.get("alibi") is True,
        is_mm_prefix_lm=facts.is_mm_prefix_lm,
        is_diffusion=facts.is_diffusion,
        is_encoder_decoder=facts.attn_type == "encoder_decoder",
        rocm=rocm,
        xpu=xpu,
        absent=model.absent_backends,
        decode_context_parallel_size=args.decode_context_parallel_size,
        prefill_context_parallel_size=args.prefill_context_parallel_size,
        flash_attn_version=preferences.flash_attn_version,
        use_trtllm_attention=args.attention_config.get("use_trtllm_attention"),
        qk_nope_head_dim=text.opt_int("qk_nope_head_dim", minimum=0),
        qk_rope_head_dim=text.opt_int("qk_rope_head_dim", minimum=0),
        v_head_dim=text.opt_int("v_head_dim", minimum=0),
        kv_lora_rank=text.opt_int("kv_lora_rank", minimum=0),
        index_topk=text.opt_int("index_topk", minimum=0),
        index_kpool=text.opt_int("index_kpool", minimum=0),
    )


def kv_heads_per_rank(
    num_kv_heads: int, tensor_parallel_size: int, *, use_mla: bool = False
) -> int:
    """KV heads on each GPU; fewer heads than GPUs are replicated, MLA always has one."""
    return 1 if use_mla else max(1, num_kv_heads // tensor_parallel_size)
