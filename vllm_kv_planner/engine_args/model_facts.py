"""What the defaults and the attention backends look up of the model."""

from __future__ import annotations

from ..gpu.gpu import Platform
from ..model.config import Config
from ..model.description import ItemRule, ModelDescription
from ..model.layers.attention import Attention
from ..model.multimodal_tokens import largest_item
from .attention_backend import EngineFacts, Preferences, preferences_of
from .defaults import OutsideFacts
from .engine_args import EngineArgs
from .facts import ModelFacts
from .parallel import kv_heads_per_rank
from .pooling import pooling_facts
from .quantization import resolve_quantization

ALIBI = frozenset({"BloomForCausalLM", "Step1ForCausalLM"})
"""Architectures whose attention always has ALiBi slopes; Falcon's config says whether.

Source: vLLM 0.33 ``model_executor/models`` ``bloom.py``, ``step1.py``, ``falcon.py``.
"""


def model_facts(args: EngineArgs, model: ModelDescription) -> ModelFacts:
    """The model as the engine's defaults see it."""
    config = model.config
    return ModelFacts(
        architecture=model.architecture,
        model_type=str(config.get("model_type", "")),
        config=config,
        text_config=model.text_config,
        runner_type=model.runner_type,
        pooling=pooling_facts(model.architecture, model.runner_type, args.pooler_config),
        quantization=resolve_quantization(
            args.quantization,
            config,
            architecture=model.architecture,
            allow_deprecated=args.allow_deprecated_quantization,
        ),
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        num_kv_heads=model.num_kv_heads,
        vocab_size=model.vocab_size,
        is_hybrid=model.is_hybrid,
        is_attention_free=model.is_attention_free,
        is_encoder_decoder=model.is_encoder_decoder,
        is_multimodal=model.is_multimodal,
        is_mm_prefix_lm=model.is_mm_prefix_lm,
        is_moe=model.is_moe,
        is_diffusion=config.get("canvas_length") is not None,
        use_mla=model.use_mla,
        supports_pp=model.supports_pp,
    )


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
