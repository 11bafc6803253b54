"""Configs to cache layers, against values worked out by hand from vLLM's model classes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from vllm_kv_planner.model.describe import describe
from vllm_kv_planner.model.layers.attention import Attention

from .architecture_cases import kinds, plain, preset, read


@pytest.mark.parametrize(
    ("architecture", "model_type", "values", "expected"),
    [
        ("GPT2LMHeadModel", "gpt2", {}, plain(12, 12, 64)),
        (
            "GPT2LMHeadModel",
            "gpt2",
            {"n_embd": 1280, "n_head": 20, "n_layer": 36},
            plain(36, 20, 64),
        ),
        # explicit head_dim, not hidden size over heads
        (
            "Qwen3ForCausalLM",
            "qwen3",
            {"hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8}
            | {"head_dim": 128, "num_hidden_layers": 28},
            plain(28, 8, 128),
        ),
        # null means as many KV heads as query heads, whatever the class's default
        (
            "LlamaForCausalLM",
            "llama",
            {"num_key_value_heads": None},
            plain(32, 32, 128),
        ),
        ("GPTJForCausalLM", "gptj", {}, plain(28, 16, 256)),
        (
            "BloomForCausalLM",
            "bloom",
            {"hidden_size": 1024, "n_head": 16, "n_layer": 24},
            plain(24, 16, 64),
        ),
        (
            "ChatGLMModel",
            "chatglm",
            {"hidden_size": 4096, "num_attention_heads": 32, "num_layers": 28}
            | {"multi_query_attention": True, "multi_query_group_num": 2},
            plain(28, 2, 128),
        ),
        (
            "DbrxForCausalLM",
            "dbrx",
            {"d_model": 6144, "n_heads": 48, "n_layers": 40, "attn_config": {"kv_n_heads": 8}},
            plain(40, 8, 128),
        ),
        (
            "FalconForCausalLM",
            "falcon",
            {"hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32}
            | {"multi_query": True, "new_decoder_architecture": False},
            plain(32, 1, 64),
        ),
        (
            "FalconForCausalLM",
            "falcon",
            {"hidden_size": 8192, "num_attention_heads": 128, "num_hidden_layers": 60}
            | {"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 8},
            plain(60, 8, 64),
        ),
        ("OPTForCausalLM", "opt", {}, plain(12, 12, 64)),
        ("GPTBigCodeForCausalLM", "gpt_bigcode", {}, plain(12, 1, 64)),
        # keys as heads are wide: 64 + 32; as many KV heads as query heads
        ("MiniCPM3ForCausalLM", "minicpm3", {}, plain(62, 40, 96)),
        (
            "MptForCausalLM",
            "mpt",
            {"d_model": 4096, "n_heads": 32, "n_layers": 32},
            plain(32, 32, 128),
        ),
        (
            "QWenLMHeadModel",
            "qwen",
            {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32},
            plain(32, 32, 128),
        ),
    ],
)
def test_plain_attention(
    architecture: str, model_type: str, values: dict[str, Any], expected: Counter[Any]
) -> None:
    assert kinds(read(architecture, model_type, **values)) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", plain(32, 8, 128)),
        ("meta-llama/Llama-2-70b-hf", plain(80, 8, 128)),
        ("openai-community/gpt2-large", plain(36, 20, 64)),
    ],
)
def test_presets(model: str, expected: Counter[Any]) -> None:
    assert kinds(preset(model)) == expected


def test_gemma_3_27b_every_sixth_layer_is_full() -> None:
    model = preset("google/gemma-3-27b-it")
    assert kinds(model) == Counter({(16, 128, 1024, "decoder"): 52, (16, 128, None, "decoder"): 10})
    assert model.is_mm_prefix_lm
    assert all(isinstance(layer, Attention) and layer.use_mm_prefix for layer in model.layers)


def test_gemma_3_4b_whose_file_omits_head_counts() -> None:
    text = {"hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}
    model = read("Gemma3ForConditionalGeneration", "gemma3", text_config=text)
    assert kinds(model) == Counter({(4, 256, 1024, "decoder"): 29, (4, 256, None, "decoder"): 5})
    assert (model.num_attention_heads, model.num_kv_heads, model.head_size) == (8, 4, 256)


def test_language_model_only_needs_no_mm_prefix() -> None:
    assert not preset("google/gemma-3-27b-it", language_model_only=True).is_mm_prefix_lm


def test_gemma_4_shares_caches_and_widens_full_layers() -> None:
    text = {
        "model_type": "gemma4_text",
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "global_head_dim": 512,
        "num_global_key_value_heads": 2,
        "attention_k_eq_v": True,
        "num_kv_shared_layers": 4,
        "sliding_window": 512,
    }
    model = read("Gemma4ForConditionalGeneration", "gemma4", text_config=text)
    assert kinds(model) == Counter(
        {
            (4, 256, 512, "decoder"): 7,
            (2, 512, None, "decoder"): 1,
            (4, 256, 512, "shared"): 3,
            (2, 512, None, "shared"): 1,
        }
    )
    assert (model.num_kv_heads, model.head_size) == (4, 512)


def test_gpt_oss_20b() -> None:
    model = preset("openai/gpt-oss-20b")
    assert kinds(model) == Counter({(8, 64, 128, "decoder"): 12, (8, 64, None, "decoder"): 12})
    first = model.layers[0]
    assert isinstance(first, Attention)
    assert (first.sliding_window, first.has_sink) == (128, True)


def test_llama_4_scout_every_fourth_layer_is_full() -> None:
    model = preset("meta-llama/Llama-4-Scout-17B-16E-Instruct")
    assert kinds(model) == Counter({(8, 128, 8192, "decoder"): 36, (8, 128, None, "decoder"): 12})


def test_cohere_2_windows_count_the_token_itself() -> None:
    model = read("Cohere2ForCausalLM", "cohere2", num_hidden_layers=8, num_key_value_heads=8)
    assert kinds(model) == Counter({(8, 128, 4097, "decoder"): 6, (8, 128, None, "decoder"): 2})


def test_model_window_reaches_every_layer_of_a_class_without_windows() -> None:
    mixtral = {"num_hidden_layers": 4, "sliding_window": 4096}
    assert kinds(read("MixtralForCausalLM", "mixtral", **mixtral)) == Counter(
        {(8, 128, 4096, "decoder"): 4}
    )
    config = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", **mixtral}
    off = describe(config, where="config.json", disable_sliding_window=True)
    assert kinds(off) == plain(4, 8, 128)


def test_qwen_2_has_no_window_unless_switched_on() -> None:
    values = {"sliding_window": 131_072, "max_window_layers": 2, "num_hidden_layers": 4}
    off = read("Qwen2ForCausalLM", "qwen2", use_sliding_window=False, **values)
    assert kinds(off) == plain(4, 32, 128)


def test_nemotron_nas_layers_without_attention() -> None:
    def block(**attention: Any) -> dict[str, Any]:
        return {"attention": attention, "ffn": {}}

    model = read(
        "DeciLMForCausalLM",
        "nemotron-nas",
        hidden_size=8192,
        num_attention_heads=64,
        num_hidden_layers=3,
        block_configs=[
            block(n_heads_in_group=8, no_op=False),
            block(n_heads_in_group=None, no_op=True),
            block(n_heads_in_group=16, no_op=False),
        ],
    )
    assert kinds(model) == Counter({(8, 128, None, "decoder"): 1, (4, 128, None, "decoder"): 1})
    assert [layer.index for layer in model.layers] == [0, 2]
    assert model.num_kv_heads == 8


def test_whisper_keeps_its_own_tokens_and_the_encoders() -> None:
    model = read(
        "WhisperForConditionalGeneration",
        "whisper",
        d_model=1280,
        decoder_layers=4,
        decoder_attention_heads=20,
        encoder_layers=32,
        encoder_attention_heads=20,
        is_encoder_decoder=True,
    )
    assert kinds(model) == Counter(
        {(20, 64, None, "decoder"): 4, (20, 64, None, "encoder_decoder"): 4}
    )
    assert model.is_encoder_decoder
    assert not model.supports_pp


def test_llava_1_5_leaves_the_language_model_to_its_defaults() -> None:
    text = {"model_type": "llama", "vocab_size": 32064}
    model = read("LlavaForConditionalGeneration", "llava", text_config=text)
    assert kinds(model) == plain(32, 32, 128)
    assert (model.is_multimodal, model.vocab_size) == (True, 32064)
