"""Models, devices and flags that the tests of ``fit`` draw from."""

from __future__ import annotations

from hypothesis import strategies as st

MODELS = (
    "gpt2",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-30B-A3B",
    "openai/gpt-oss-20b",
    "openai/gpt-oss-120b",
    "google/gemma-3-27b-it",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
)
"""Dense and with experts, windows, latents, states, an encoder, quantised."""

GPUS = ("L4", "A100-40GB", "H100", "H200", "RTX 4090", "B200", "T4")

FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "max_model_len": st.sampled_from([1024, 4096, 8192, 16384]),
        "max_num_seqs": st.sampled_from([1, 7, 64, 512]),
        "max_num_batched_tokens": st.sampled_from([512, 2048, 6000]),
        "gpu_memory_utilization": st.sampled_from([0.5, 0.9, 0.98]),
        "tensor_parallel_size": st.sampled_from([1, 2, 3, 4, 8]),
        "pipeline_parallel_size": st.sampled_from([1, 2, 3]),
        "data_parallel_size": st.sampled_from([1, 2, 4]),
        "enable_expert_parallel": st.booleans(),
        "kv_cache_dtype": st.sampled_from(["auto", "fp8"]),
        "enforce_eager": st.booleans(),
    },
)
"""Flags that a search changes."""
