"""The quantization method: what the flag, the checkpoint and the device make of it.

Expected values are read off vLLM 0.33's source: ``ModelConfig._verify_quantization``, the classes'
``override_quantization_method``, ``from_config``, ``get_min_capability`` and
``get_supported_act_dtypes``. ``test_engine_variants.py`` compares with vLLM's own answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner import plan
from vllm_kv_planner.config.find import FoundConfig, find_config
from vllm_kv_planner.engine_args.quantization import resolve_quantization
from vllm_kv_planner.engine_args.quantization_checks import (
    METHODS,
    ONLINE_SHORTHANDS,
    check_quantization,
)
from vllm_kv_planner.errors import ConfigError, InputError, UnknownNameError, UnsupportedError

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "FP8"}
ROUNDED = {"quant_method": "auto-round", "bits": 4, "group_size": 128}


def resolve(
    checkpoint: dict[str, Any] | None = None,
    flag: str | None = None,
    *,
    architecture: str = "LlamaForCausalLM",
    model_type: str = "llama",
    allow_deprecated: bool = False,
    **config: Any,
) -> str | None:
    if checkpoint is not None:
        config["quantization_config"] = checkpoint
    return resolve_quantization(
        flag,
        {"model_type": model_type, **config},
        architecture=architecture,
        allow_deprecated=allow_deprecated,
    )


def check(
    method: str,
    checkpoint: dict[str, Any] | None = None,
    *,
    dtype: str = "bfloat16",
    capability: tuple[int, int] = (9, 0),
    online: bool = False,
) -> None:
    check_quantization(
        method,
        {} if checkpoint is None else {"quantization_config": checkpoint},
        dtype=dtype,
        compute_capability=capability,
        has_online_config=online,
    )


@pytest.mark.parametrize(
    ("checkpoint", "flag", "method"),
    [
        (None, None, None),
        (None, "fp8", "fp8"),
        (None, "FP8", "fp8"),
        (GPTQ, None, "auto_gptq"),
        (GPTQ, "gptq", "auto_gptq"),
        (GPTQ, "gptq_marlin", "auto_gptq"),
        (GPTQ, "marlin", "auto_gptq"),
        (GPTQ, "moe_wna16", "moe_wna16"),
        (GPTQ, "humming", "humming"),
        (AWQ, None, "auto_awq"),
        (AWQ, "awq_marlin", "auto_awq"),
        (FP8, None, "fp8"),
        (FP8, "deepseek_v4_fp8", "deepseek_v4_fp8"),
        (ROUNDED, None, "inc"),
        (ROUNDED, "awq", "inc"),
        (MODELOPT, None, "modelopt"),
        ({**MODELOPT, "quant_algo": "NVFP4"}, None, "modelopt_fp4"),
        ({**MODELOPT, "quant_algo": "W4A16_NVFP4"}, "modelopt", "modelopt_fp4"),
        ({**MODELOPT, "quant_algo": "MXFP8"}, None, "modelopt_mxfp8"),
        ({**MODELOPT, "quant_algo": "MIXED_PRECISION"}, None, "modelopt_mixed"),
        ({**MODELOPT, "quant_algo": "FP8_PB_WO"}, None, "modelopt"),
        ({"quant_method": "compressed_tensors"}, None, "compressed-tensors"),
        ({"quant_method": ""}, None, None),
    ],
)
def test_method(checkpoint: dict[str, Any] | None, flag: str | None, method: str | None) -> None:
    assert resolve(checkpoint, flag) == method


def test_old_modelopt_file() -> None:
    old = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}
    assert resolve(old) == "modelopt_fp4"
    with pytest.raises(UnsupportedError, match="Unknown ModelOpt quant algo: INT8"):
        resolve({**old, "quantization": {"quant_algo": "int8"}})


def test_models_with_a_method_of_their_own() -> None:
    mxfp4 = {"quant_method": "mxfp4"}
    assert resolve(mxfp4) == "mxfp4"
    assert resolve(mxfp4, model_type="gpt_oss") == "gpt_oss_mxfp4"
    assert resolve(mxfp4, "mxfp4", model_type="gpt_oss") == "gpt_oss_mxfp4"
    with pytest.raises(InputError, match="--moe-backend humming"):
        resolve(mxfp4, "humming", model_type="gpt_oss")
    assert resolve(FP8, "fp8", model_type="deepseek_v4") == "deepseek_v4_fp8"
    packed = {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}
    assert resolve(packed, architecture="KimiK3ForConditionalGeneration") == "mxfp4"
    assert resolve(packed) == "compressed-tensors"


def test_where_the_checkpoint_says_it() -> None:
    assert resolve(text_config={"quantization_config": AWQ}) == "auto_awq"
    assert resolve(compression_config={"quant_method": "compressed-tensors"}) is not None
    assert resolve(FP8, text_config={"quantization_config": AWQ}) == "fp8"
    with pytest.raises(ConfigError, match="expected an object"):
        resolve(["fp8"])  # type: ignore[arg-type]


def test_mismatch_unknown_deprecated() -> None:
    with pytest.raises(InputError, match=r"in the model config \(gptq\) does not match .*\(awq\)"):
        resolve(GPTQ, "awq")
    with pytest.raises(InputError, match=r"\(fp8\) does not match .*\(mxfp8\)"):
        resolve(FP8, "mxfp8")
    for checkpoint, flag in (({"quant_method": "bitsandbytes"}, None), (None, "marlin")):
        with pytest.raises(UnknownNameError, match="Unknown quantization method: "):
            resolve(checkpoint, flag)
    for method in ("fbgemm_fp8", "fp_quant"):
        with pytest.raises(InputError, match=f"{method} is deprecated .*--allow-deprecated"):
            resolve({"quant_method": method})
        assert resolve({"quant_method": method}, allow_deprecated=True) == method
        assert resolve(None, method, allow_deprecated=True) == method


@pytest.mark.parametrize(
    ("method", "checkpoint", "lowest"),
    [
        ("auto_gptq", GPTQ, 75),  # 60 by its class, 75 by the Marlin kernels its layers need
        ("auto_awq", AWQ, 75),
        ("fp8", FP8, 75),
        ("fp8", None, 75),  # online
        ("modelopt", MODELOPT, 80),
        ("modelopt_fp4", {**MODELOPT, "quant_algo": "NVFP4"}, 75),
        # 70 and 60 by their classes, 75 by the schemes of their layers
        ("compressed-tensors", {"quant_method": "compressed-tensors"}, 75),
        ("experts_int8", None, 80),
        ("inc", ROUNDED, 75),
        ("mxfp8", None, 75),  # online
        ("mxfp8", {"quant_method": "mxfp8"}, 80),
    ],
)
def test_minimum_capability(method: str, checkpoint: dict[str, Any] | None, lowest: int) -> None:
    dtype = "bfloat16"
    check(method, checkpoint, dtype=dtype, capability=divmod(lowest, 10))
    below = divmod(lowest - (1 if lowest % 10 else 5), 10)
    with pytest.raises(
        InputError, match=f"{method} is not supported for the current GPU.*{lowest}"
    ):
        check(method, checkpoint, dtype=dtype, capability=below)


def test_dtypes_of_the_activations() -> None:
    with pytest.raises(InputError, match="float32 is not supported for quantization method fp8"):
        check("fp8", FP8, dtype="float32")
    with pytest.raises(InputError, match=r"float16 is not supported .* gpt_oss_mxfp4"):
        check("gpt_oss_mxfp4", {"quant_method": "mxfp4"}, dtype="float16")
    check("compressed-tensors", {"quant_method": "compressed-tensors"}, dtype="float32")


@pytest.mark.parametrize(
    ("method", "checkpoint", "message"),
    [
        ("auto_gptq", {**GPTQ, "desc_act": True}, "desc_act=True"),
        ("auto_gptq", {**GPTQ, "sym": False}, "bits=4, sym=False"),
        ("auto_gptq", {**GPTQ, "bits": 3}, "bits=3, sym=True"),
        ("auto_gptq", {**GPTQ, "group_size": 100}, "group_size = 100"),
        ("auto_gptq", {"quant_method": "gptq", "bits": 4}, r"Cannot find any of \['group_size'\]"),
        ("auto_gptq", {**GPTQ, "dynamic": {"+:.*": {"desc_act": True}}}, "dynamic rule"),
        ("auto_awq", {**AWQ, "bits": 8}, "Unsupported num_bits = 8"),
        ("auto_awq", {"quant_method": "awq", "bits": 4}, r"\['q_group_size', 'group_size'\]"),
        ("fp8", {"quant_method": "fp8"}, "activation_scheme"),
        ("fp8", {**FP8, "activation_scheme": "odd"}, "Unsupported activation scheme odd"),
        ("fp8", {**FP8, "weight_block_size": [128]}, "2 dimensions"),
        (
            "fp8",
            {**FP8, "weight_block_size": [128, 128], "activation_scheme": "static"},
            "only supports dynamic activation scheme",
        ),
        ("modelopt", {"quant_method": "modelopt"}, "Missing 'quant_algo'"),
        ("modelopt", {**MODELOPT, "quant_algo": "INT8"}, "currently only supports"),
        ("modelopt_mixed", {**MODELOPT, "quantized_layers": {}}, "Missing|non-empty"),
        ("inc", {**ROUNDED, "bits": 16}, "Unsupported weight_bits: 16"),
        ("inc", {**ROUNDED, "data_type": "nv"}, "Unsupported data_type: nv"),
    ],
)
def test_refused_checkpoints(method: str, checkpoint: dict[str, Any], message: str) -> None:
    if method == "modelopt_mixed":
        checkpoint = {**checkpoint, "quant_algo": "MIXED_PRECISION"}
    with pytest.raises(InputError, match=message):
        check(method, checkpoint)


def test_methods_without_a_checkpoint_config() -> None:
    for method in ("fp8", "mxfp4", "fp8_per_block", "nvfp4_per_token", "deepseek_v4_fp8"):
        check(method)
    with pytest.raises(UnsupportedError, match="Cannot find the config file for awq"):
        check("awq")
    with pytest.raises(InputError, match="cannot make this method's from nothing"):
        check("torchao")
    with pytest.raises(InputError, match="online"):
        check("online")
    check("online", online=True)


def test_every_method_has_a_rule() -> None:
    from vllm_kv_planner.engine_args.flag_table import flag_of

    assert set(flag_of("quantization").names) == set(METHODS) | set(ONLINE_SHORTHANDS)


def test_what_every_method_asks_is_what_its_class_answers() -> None:
    """``tools/make_quantization_methods.py`` asked vLLM 0.33's classes."""
    file = Path(__file__).parent / "data" / "vllm_0_33_quantization_methods.json"
    theirs = json.loads(file.read_text(encoding="utf-8"))
    ours = {
        name: {
            "capability": rule.min_capability,
            "dtypes": sorted(rule.dtypes),
            "files": sorted(rule.files),
        }
        for name, rule in METHODS.items()
    }
    assert ours == {name: theirs[name] for name in ours}
    assert theirs.keys() - ours.keys() <= set(ONLINE_SHORTHANDS)


def test_the_side_file_counts(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 1024,
        "num_attention_heads": 8,
        "num_hidden_layers": 4,
        "vocab_size": 1024,
        "max_position_embeddings": 2048,
        "torch_dtype": "bfloat16",
    }
    quantization = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantization))
    found = plan(str(tmp_path), gpu="H100", kv_cache_memory_bytes=1 << 30)
    assert (found.engine.quantization, found.engine.kv_cache_dtype) == ("modelopt", "fp8_e4m3")
    # config.json's own goes first
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": FP8}))
    found = plan(str(tmp_path), gpu="H100", kv_cache_memory_bytes=1 << 30)
    assert (found.engine.quantization, found.engine.kv_cache_dtype) == ("fp8", "auto")


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        # 9,728 / 8 = 1,216 is no multiple of 128, 9,728 / 4 = 2,432 is
        ("Qwen/Qwen3-4B-FP8", {"tensor_parallel_size": 8}, "input_size_per_partition = 1216"),
        ("Qwen/Qwen3-4B-FP8", {"tensor_parallel_size": 4}, None),
        # 768 / 8 = 96: blocks of 32 do; 768 / 16 = 48: none does
        ("Qwen/Qwen3-30B-A3B-FP8", {"tensor_parallel_size": 8}, None),
        ("Qwen/Qwen3-30B-A3B-FP8", {"tensor_parallel_size": 16}, "gate's and up's weight = 48"),
        (
            "Qwen/Qwen3-30B-A3B-FP8",
            {"tensor_parallel_size": 16, "enable_expert_parallel": True},
            None,
        ),
        # 11,008 / 8 = 1,376 is no multiple of AWQ's groups of 128
        ("TheBloke/Llama-2-7B-AWQ", {"tensor_parallel_size": 8}, "input size is not aligned"),
        ("TheBloke/Llama-2-7B-AWQ", {"tensor_parallel_size": 2}, None),
        # shared experts of 3,072 are rounded up to whole blocks (vLLM accepts)
        ("deepseek-ai/DeepSeek-V4-Pro", {"tensor_parallel_size": 16}, None),
        (
            "nvidia/DeepSeek-V4-Pro-NVFP4",
            {"tensor_parallel_size": 16, "enable_expert_parallel": True},
            None,
        ),
        # one shared expert of 512
        ("poolside/Laguna-XS.2-FP8", {"tensor_parallel_size": 8}, "output_partition_size = 64"),
    ],
)
def test_blocks_and_groups_of_weights(
    model: str, flags: dict[str, Any], message: str | None
) -> None:
    def planned() -> object:
        return plan(model, gpu="H100", kv_cache_memory_bytes=8 << 30, max_model_len=4096, **flags)

    if message is None:
        planned()
        return
    with pytest.raises(InputError, match=message):
        planned()


def test_blocks_of_experts_whose_width_is_the_intermediate_size() -> None:
    """MiniMax-M2's experts are 1,536 wide, by the name of other models' MLPs."""
    config = dict(find_config("MiniMaxAI/MiniMax-M2").config)
    flags: dict[str, Any] = {"gpu": "H200", "tensor_parallel_size": 8, "max_model_len": 4096}
    assert plan(FoundConfig("a/b", config, "bundled"), **flags)
    blocks = {**config["quantization_config"], "weight_block_size": [100, 128]}
    with pytest.raises(InputError, match="gate's and up's weight = 192 is not divisible"):
        plan(FoundConfig("a/b", {**config, "quantization_config": blocks}, "bundled"), **flags)
