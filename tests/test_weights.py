"""Weights per rank: values worked out by hand, vLLM's own for published configs, and properties."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from vllm_kv_planner import plan
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.memory.weights.architectures import family, rule, table

from .shared import config_files
from .weight_cases import BF16, GIB, LLAMA_8B, QWEN3_MOE, ROPE_8B, SCALES, estimate


def test_llama_8b_by_hand() -> None:
    attention = 4096 * (32 + 2 * 8) * 128 + 32 * 128 * 4096
    mlp = 3 * 4096 * 14336
    layer = attention + mlp + 2 * 4096
    parameters = 2 * 128256 * 4096 + 32 * layer + 4096
    assert parameters * BF16 == 16_060_522_496
    (rank,) = estimate(LLAMA_8B).stages
    assert rank.num_bytes == 16_060_522_496 + ROPE_8B + 32 * SCALES
    assert round(rank.num_bytes / GIB, 4) == 14.9888
    assert rank.parts["attention"] == 32 * (attention * BF16 + SCALES)
    assert rank.parts["mlp"] == 32 * mlp * BF16
    assert rank.parts["norms"] == 65 * 4096 * BF16
    assert rank.parts["rotary"] == ROPE_8B
    assert rank.parts["embedding"] == rank.parts["lm_head"] == 128256 * 4096 * BF16


def test_tensor_parallel_divides_all_but_norms_and_rope() -> None:
    (whole,) = estimate(LLAMA_8B).stages
    (eighth,) = estimate(LLAMA_8B, tensor_parallel_size=8).stages
    kept = whole.parts["norms"] + ROPE_8B + 32 * SCALES
    assert eighth.num_bytes == (whole.num_bytes - kept) // 8 + kept


def test_kv_heads_fewer_than_gpus_are_replicated() -> None:
    (rank,) = estimate(LLAMA_8B, tensor_parallel_size=16).stages
    qkv = 4096 * (2 + 2 * 1) * 128
    assert rank.parts["attention"] == 32 * ((qkv + 2 * 128 * 4096) * BF16 + SCALES)


def test_vocabulary_is_padded_to_64() -> None:
    (rank,) = estimate({**LLAMA_8B, "vocab_size": 128257}, tensor_parallel_size=2).stages
    assert rank.parts["embedding"] == 128320 // 2 * 4096 * BF16


def test_pipeline_stages() -> None:
    whole, two = estimate(LLAMA_8B), estimate(LLAMA_8B, pipeline_parallel_size=2)
    first, last = two.stages
    assert "lm_head" not in first.parts and "embedding" not in last.parts
    assert sum(two.num_bytes) == whole.num_bytes[0] + ROPE_8B
    tied = {**LLAMA_8B, "tie_word_embeddings": True}
    first, last = estimate(tied, pipeline_parallel_size=2).stages
    assert first.parts["embedding"] == last.parts["embedding"] == 128256 * 4096 * BF16
    assert "lm_head" not in last.parts


def test_experts_are_cut_or_divided() -> None:
    one = 3 * 2048 * 768 * BF16
    (rank,) = estimate(QWEN3_MOE).stages
    router = 128 * 2048 * BF16
    assert rank.parts["experts"] == 48 * (128 * one + router)
    (cut,) = estimate(QWEN3_MOE, tensor_parallel_size=2).stages
    assert cut.parts["experts"] == 48 * (128 * one // 2 + router)
    (divided,) = estimate(QWEN3_MOE, tensor_parallel_size=2, enable_expert_parallel=True).stages
    assert divided.parts["experts"] == 48 * (64 * one + router + 128 * 4)  # and a map of experts
    wide = {"data_parallel_size": 4, "enable_expert_parallel": True}
    (rank,) = estimate(QWEN3_MOE, tensor_parallel_size=2, **wide).stages
    assert rank.parts["experts"] == 48 * (16 * one + router + 128 * 4)


def test_blackwell_pads_experts_to_128() -> None:
    args = {"tensor_parallel_size": 8}
    (hopper,) = estimate(QWEN3_MOE, **args).stages
    (blackwell,) = estimate(QWEN3_MOE, capability=(10, 0), **args).stages
    difference = 48 * 128 * 3 * 2048 * (128 - 96) * BF16
    assert blackwell.num_bytes - hopper.num_bytes == difference


def test_fp8_blocks_by_hand() -> None:
    quantised = {
        **LLAMA_8B,
        "quantization_config": {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.down_proj"],
        },
    }
    (rank,) = estimate(quantised).stages
    gate_up, down = 2 * 14336 * 4096, 4096 * 14336
    blocks = (gate_up + down) // (128 * 128) * 4
    first = gate_up + gate_up // (128 * 128) * 4 + down * BF16
    assert rank.parts["mlp"] == 31 * (gate_up + down + blocks) + first
    assert rank.parts["lm_head"] == 128256 * 4096 * BF16


@pytest.mark.parametrize(
    ("config", "mlp_bytes"),
    [
        # 4 bits, a float16 scale and a 4-bit zero point per 128 inputs
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
            (3 * 4096 * 14336) * (1 / 2 + 2 / 128 + 1 / 256),
        ),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            (3 * 4096 * 14336) * (1 / 2 + 2 / 128 + 1 / 256),
        ),
        # 8 bits, a float32 scale per output row
        (
            {
                "quant_method": "compressed-tensors",
                "format": "float-quantized",
                "ignore": ["lm_head"],
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                        "input_activations": {"num_bits": 8, "type": "float", "dynamic": True},
                    }
                },
            },
            3 * 4096 * 14336 + (2 * 14336 + 4096) * 4,
        ),
        # 4 bits in int32, a bfloat16 scale per 128 inputs, two shapes of two int64
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "ignore": ["lm_head"],
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {
                            **{"num_bits": 4, "type": "int", "strategy": "group"},
                            **{"group_size": 128, "symmetric": True},
                        },
                    }
                },
            },
            3 * 4096 * 14336 * (1 / 2 + 2 / 128) + 2 * 16,
        ),
        # 4-bit floats, an 8-bit scale per 16, two float32 per merged matrix
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
            3 * 4096 * 14336 * (1 / 2 + 1 / 16) + 3 * 8,
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]},
            3 * 4096 * 14336 + 3 * 8,
        ),
    ],
)
def test_formats_by_hand(config: Mapping[str, Any], mlp_bytes: float) -> None:
    (rank,) = estimate({**LLAMA_8B, "quantization_config": config}).stages
    assert rank.parts["mlp"] == 32 * mlp_bytes


def test_online_fp8_is_what_stays() -> None:
    (rank,) = estimate(LLAMA_8B, quantization="fp8").stages
    # engines on H100 print 8.49 GiB
    assert round(rank.loaded_bytes / GIB, 2) == 8.49


def test_compressed_tensors_by_pattern_and_name() -> None:
    scheme = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
    config = {
        **LLAMA_8B,
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "ignore": ["re:.*layers\\.[0-9]\\..*", "lm_head"],
            "config_groups": {"group_0": {"targets": ["re:.*down_proj"], **scheme}},
        },
    }
    (rank,) = estimate(config).stages
    down = 4096 * 14336
    assert rank.parts["mlp"] == 32 * 2 * down * BF16 + 10 * down * BF16 + 22 * (down + 4096 * 4)


def test_lora_slots_by_hand() -> None:
    (plain,) = estimate(LLAMA_8B).stages
    flags = {"enable_lora": True, "max_loras": 2, "max_lora_rank": 16}
    (rank,) = estimate(LLAMA_8B, **flags, lora_target_modules=("qkv_proj", "o_proj")).stages
    # A for queries, keys and values each; B for each's outputs
    qkv = 3 * 4096 + (4096 + 1024 + 1024)
    assert rank.parts["LoRA"] == 2 * 16 * 32 * (qkv + 2 * 4096) * BF16
    assert rank.num_bytes == plain.num_bytes + rank.parts["LoRA"]


def test_cpu_offload_moves_whole_parameters_until_the_budget_is_met() -> None:
    (whole,) = estimate(LLAMA_8B).stages
    (rank,) = estimate(LLAMA_8B, cpu_offload_gb=1.0).stages
    moved = whole.num_bytes - rank.num_bytes
    assert GIB <= moved < GIB + 2 * 14336 * 4096 * BF16
    # engines on RTX 3090 print 2.91 GiB with 12 GiB offloaded
    (rank,) = estimate(LLAMA_8B, cpu_offload_gb=12.0).stages
    assert rank.loaded_bytes / GIB == pytest.approx(2.91, abs=0.01)


def test_eagle3_by_hand() -> None:
    draft = {
        **LLAMA_8B,
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 1,
        "draft_vocab_size": 32000,
    }
    (plain,) = estimate(LLAMA_8B).stages
    (rank,) = estimate(LLAMA_8B, draft_method="eagle3", draft=draft).stages
    attention = 2 * 4096 * (32 + 16) * 128 + 4096 * 4096
    layer = attention + 3 * 4096 * 14336 + 3 * 4096
    parameters = 3 * 4096 * 4096 + layer + 4096 + 32000 * 4096
    expected = parameters * BF16 + SCALES + 32000 * 8
    assert rank.num_bytes - plain.num_bytes == expected


def test_a_draft_model_counts_whole() -> None:
    small = {**LLAMA_8B, "num_hidden_layers": 2}
    (plain,) = estimate(LLAMA_8B).stages
    (alone,) = estimate(small).stages
    (rank,) = estimate(LLAMA_8B, draft_method="draft_model", draft=small).stages
    rope = LLAMA_8B["max_position_embeddings"] * 128 * BF16  # the same in both: made once
    assert rank.num_bytes == plain.num_bytes + alone.num_bytes - rope
    (rank,) = estimate(LLAMA_8B, draft_method="ngram").stages
    assert rank.num_bytes == plain.num_bytes


def test_the_allocator_counts_whole_segments() -> None:
    config = {**LLAMA_8B, "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}
    config |= {"intermediate_size": 18944, "vocab_size": 152064, "num_hidden_layers": 28}
    (rank,) = estimate(config, version=(0, 20)).stages
    mib = 1 << 20
    # qkv 31.5 MiB lies in 32, gate_up 259 in 260, down 129.5 in 130; embedding and head 1039.5
    # in 1040; norms are 14 blocks of 512 bytes, scales one block each
    layers = 28 * (0.5 + 1 + 0.5) * mib + 28 * 4 * (512 - 4)
    assert rank.padding_bytes == layers + 2 * 0.5 * mib
    # from 0.21 on none of 20 MiB and more is split: the output projection's 24.5 MiB count 26
    (later,) = estimate(config, version=(0, 21)).stages
    assert later.padding_bytes == rank.padding_bytes + 28 * 1.5 * mib
    # its limit is set on CUDA alone
    (amd,) = estimate(config, platform="rocm").stages
    assert amd.padding_bytes == rank.padding_bytes


def test_a_small_model_as_two_engines_printed() -> None:
    """Qwen2.5-1.5B at 0.28, an RTX 4090 D and a card of compute capability 7.5: 2.98 GiB each."""
    config = {
        **{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 1536},
        **{"intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
        **{"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
        **{"max_position_embeddings": 32768},
    }
    (rank,) = estimate(config, version=(0, 28), capability=(8, 9)).stages
    assert rank.loaded_bytes / GIB == pytest.approx(2.98, abs=0.015)
    (before,) = estimate(config, version=(0, 20), capability=(8, 9)).stages
    assert rank.loaded_bytes - before.loaded_bytes == pytest.approx(28 * 3.25 * (1 << 20), rel=0.05)


def test_adapters_of_a_tied_head_as_the_engine_printed() -> None:
    """Qwen3-4B on an RTX 4090 at 0.27.1: 7.63 GiB with one adapter of rank 16, 12.49 with 64."""
    config = find_config("Qwen/Qwen3-4B").config
    for slots, printed in ((1, 7.63), (64, 12.49)):
        flags = {"enable_lora": True, "max_loras": slots, "max_lora_rank": 16}
        (rank,) = estimate(config, version=(0, 27), capability=(8, 9), **flags).stages
        assert rank.loaded_bytes / GIB == pytest.approx(printed, abs=0.006)


def test_towers_are_left_out_when_no_picture_may_come() -> None:
    files = config_files()
    if "Qwen/Qwen3-VL-8B-Instruct" not in files:
        pytest.skip("needs the published configs of ../shared")
    config = json.loads(files["Qwen/Qwen3-VL-8B-Instruct"].read_text())
    assert "vision" in estimate(config).stages[0].parts
    for flags in ({"language_model_only": True}, {"limit_mm_per_prompt": {"image": 0, "video": 0}}):
        assert "vision" not in estimate(config, **flags).stages[0].parts
    assert "vision" in estimate(config, limit_mm_per_prompt={"image": 0}).stages[0].parts
    (whole,) = estimate(config).stages
    two = {"tensor_parallel_size": 2}
    (cut,) = estimate(config, **two).stages
    (data,) = estimate(config, **two, mm_encoder_tp_mode="data").stages
    assert cut.parts["vision"] < data.parts["vision"] == whole.parts["vision"]


def test_what_has_no_rule_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="ApertusForCausalLM"):
        estimate({**LLAMA_8B, "architectures": ["ApertusForCausalLM"], "model_type": "apertus"})
    with pytest.raises(UnsupportedError, match="MTP"):
        estimate(LLAMA_8B, draft_method="mtp")
    with pytest.raises(UnsupportedError, match="offload-group-size"):
        estimate(LLAMA_8B, offload_group_size=2)


def test_every_row_names_a_rule_that_is_there() -> None:
    for name in table():
        row = family(name)
        assert row is not None
        assert callable(rule(row["wrapper"] if "wrapper" in row else row["rule"]))
        if "wrapper" in row:
            assert family(row["text"]) is not None


def test_kimi_linear_has_no_low_rank_queries() -> None:
    """``q_lora_rank: null``; vLLM 0.33 loads 49,160,321,932 bytes a rank at TP 2 (issue)."""
    delta = {"head_dim": 128, "num_heads": 32, "short_conv_kernel_size": 4}
    full = [4, 8, 12, 16, 20, 24, 27]
    delta |= {"full_attn_layers": full, "kda_layers": [i for i in range(1, 27) if i not in full]}
    config = {
        **{"architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear"},
        **{"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 27},
        **{"num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 72},
        **{"vocab_size": 163840, "kv_lora_rank": 512, "q_lora_rank": None, "v_head_dim": 128},
        **{"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "mla_use_nope": True},
        **{"num_experts": 256, "num_experts_per_token": 8, "num_shared_experts": 1},
        **{"moe_intermediate_size": 1024, "moe_layer_freq": 1, "first_k_dense_replace": 1},
        **{"torch_dtype": "bfloat16", "model_max_length": 1048576, "linear_attn_config": delta},
    }
    (rank,) = estimate(config, tensor_parallel_size=2).stages
    assert rank.num_bytes == pytest.approx(49_160_321_932, rel=2e-4)


def bytes_of(changes: Mapping[str, Any], **flags: Any) -> tuple[int, ...]:
    """Of Llama-3.1-8B's config with other values."""
    return estimate({**LLAMA_8B, **changes}, **flags).num_bytes


@pytest.mark.parametrize(
    ("kind", "values", "width"),
    [
        # models/llama.py LlamaDecoderLayer: qkv_bias overrules, and leaves the output's bias
        ("Llama", {"bias": True}, 6144 + 4096),
        ("Llama", {"qkv_bias": True}, 6144),
        ("Llama", {"qkv_bias": False, "attention_bias": True}, 4096),
        # models/gemma2.py and gemma3.py ask for attention_bias
        ("Gemma2", {"attention_bias": True}, 6144 + 4096),
        ("Gemma3", {"attention_bias": True}, 6144 + 4096),
    ],
)
def test_biases_by_hand(kind: str, values: Mapping[str, Any], width: int) -> None:
    model_type = "gemma3_text" if kind == "Gemma3" else kind.lower()
    base: dict[str, Any] = {"architectures": [f"{kind}ForCausalLM"], "model_type": model_type}
    base |= {"head_dim": 128, "sliding_window": 512}
    without = {**base, "attention_bias": False}
    (more,), (less,) = bytes_of({**base, **values}), bytes_of(without)
    assert more - less == 32 * width * BF16


def test_olmoe_asks_no_stage_for_its_number() -> None:
    # models/olmoe.py builds embedding, norm and head on every stage
    config = {
        **QWEN3_MOE,
        **{"architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "intermediate_size": 1024},
    }
    (whole,), two = estimate(config).stages, estimate(config, pipeline_parallel_size=2)
    again = whole.parts["embedding"] + whole.parts["lm_head"] + 2048 * BF16
    assert sum(two.num_bytes) == whole.num_bytes + again + whole.parts["rotary"]


def test_kimi_casts_its_encoder_unless_it_is_quantised() -> None:
    # models/kimi_k25.py: time_weight, 4 * 1152, is float32 until .to(dtype=...)
    path = config_files().get("moonshotai/Kimi-K2.5")
    if path is None:
        pytest.skip("needs ../shared/configs")
    config = json.loads(path.read_text())
    (cast,) = estimate(config, limit_mm_per_prompt={"image": 0}).stages
    del config["text_config"]["quantization_config"]
    config["quantization_config"] = {"quant_method": "modelopt", "quant_algo": "FP8"}
    (kept,) = estimate(config).stages
    assert kept.parts["vision"] - cast.parts["vision"] == 4 * 1152 * (4 - BF16)
    (without,) = estimate(config, limit_mm_per_prompt={"vision_chunk": 0}).stages
    assert "vision" not in without.parts


@pytest.mark.parametrize(
    ("repo", "parameters", "padding", "positions"),
    [
        # vLLM 0.22 registry.py: other names of LlamaForCausalLM; parameters by the models' sizes
        ("internlm/internlm-chat-7b", 7_321_948_160, 0, 2048),
        ("xverse/XVERSE-7B", 7_299_846_144, 10 * 4096 * 2, 8192),
    ],
)
def test_what_older_versions_ran_as_llama(
    repo: str, parameters: int, padding: int, positions: int
) -> None:
    path = config_files().get(repo)
    if path is None:
        pytest.skip("needs ../shared/configs")
    (found,) = estimate(json.loads(path.read_text()), version=(0, 22)).num_bytes
    assert found == (parameters + padding + positions * 128) * BF16 + 32 * SCALES


def test_latent_attention_keeps_a_quantised_matrix_twice() -> None:
    """vLLM 0.33 executed on DeepSeek-V3, TP 8: 4 MiB a layer (``benchmarks/memory_parity.py``)."""
    config = find_config("deepseek-ai/DeepSeek-V3").config
    (stage,) = estimate(config, tensor_parallel_size=8).stages
    heads, copies = 128 // 8, 61
    assert stage.processing_bytes == copies * heads * (128 + 128) * 512 * 2 == copies * 4 << 20
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    assert estimate(plain, tensor_parallel_size=8).stages[0].processing_bytes == 0


def test_a_loader_that_keeps_files_in_unified_memory_is_unsure() -> None:
    """Published starts of GB10 at 0.28: 23.2 GiB for the KV cache, where 46 were planned."""
    name, flags = "nvidia/Qwen3.6-35B-A3B-NVFP4", {"gpu_memory_utilization": 0.6}
    plain = plan(name, gpu="GB10", **flags)
    loaded = plan(name, gpu="GB10", load_format="fastsafetensors", **flags)
    more = (loaded.memory.uncertainty_bytes or 0) - (plain.memory.uncertainty_bytes or 0)
    assert more > 0.9 * (plain.memory.weights_bytes or 0)
    assert any("--load-format" in note for note in loaded.notes)
    other = plan(name, gpu="RTX 5090", load_format="fastsafetensors", **flags)
    assert not any("--load-format" in note for note in other.notes)
