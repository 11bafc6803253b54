"""What the Python API takes, and that anything else is one clear line."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner import (
    InputError,
    Plan,
    PlannerError,
    RequestSource,
    UnknownNameError,
    VLLMPlanner,
    compare_models,
    estimate_kv_cache,
    paging,
    plan_engine,
    plan_launch,
    plan_request,
    run_workload,
    sweep,
)
from vllm_kv_planner import plan as plan_of
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.planning.request import Machine
from vllm_kv_planner.planning.types import ModelInfo
from vllm_kv_planner.records import fields

GIVEN: dict[str, Any] = {"kv_cache_memory_bytes": 1 << 30, "planner": "standalone"}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}


@pytest.mark.parametrize("model", [None, 3, {}, [], b"gpt2", object()])
def test_models_that_are_none(model: Any) -> None:
    with pytest.raises(InputError, match="is no Hub id") as caught:
        plan_of(model, **GIVEN)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="is no Hub id"):
        estimate_kv_cache(model, seq_len=1)


def test_paths_are_models(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GPT2))
    assert plan_of(path, **GIVEN) == plan_of(str(path), **GIVEN)
    assert estimate_kv_cache(path, seq_len=1024).approx_bytes == 1024 * 36_864


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tensor_parallel_size", 2.0, "2.0 is not a whole number"),
        ("tensor_parallel_size", None, "None is not a whole number"),
        ("tensor_parallel_size", True, "True is not a whole number"),
        ("kv_cache_memory_bytes", 1.5e9, "is not a whole number"),
        ("kv_cache_memory_bytes", 10**40, "it must be at most"),
        ("max_num_seqs", 7.5, "7.5 is not a whole number"),
        ("max_model_len", "512", "'512' is not a whole number"),
        ("max_model_len", 10**400, "a number of more than 60 digits"),
        ("data_parallel_size", 10**30, "it must be at most 65,536"),
        ("enforce_eager", "x", "'x' is not True or False"),
        ("enable_prefix_caching", 1, "1 is not True or False"),
        ("gpu_memory_utilization", "0.9", "'0.9' is not a number"),
        ("gpu_memory_utilization", None, "None is not a number"),
        ("gpu_memory_utilization", 10**400, "a number of more than 60 digits"),
        ("dtype", None, "None is not text"),
        ("kv_cache_dtype", 8, "8 is not text"),
        ("quantization", 3, "3 is not text"),
        ("attention_backend", 3, "3 is not text"),
        ("revision", 3, "3 is not text"),
        ("hf_overrides", "x", "'x' is not a dictionary"),
        ("hf_overrides", {1: 2}, "texts as keys"),
        ("speculative_config", [], "is not a dictionary"),
        ("compilation_config", 7, "7 is not a dictionary"),
        ("compilation_config", {"cudagraph_capture_sizes": "x"}, "a list of values, each a whole"),
        ("compilation_config", {"cudagraph_capture_sizes": [0]}, "whole numbers from 1 up"),
        ("compilation_config", {"max_cudagraph_capture_size": -1}, "from 0 up"),
        ("compilation_config", {"cudagraph_mode": []}, "valid: NONE, PIECEWISE"),
        ("compilation_config", {"mode": "x"}, "valid: 0 to 3"),
        ("attention_config", {"backend": 3}, "expected a backend's name"),
        ("attention_config", {"flash_attn_version": True}, "takes one of 2, 3, 4 or null"),
        ("cudagraph_capture_sizes", 5, "5 is not a list of whole numbers"),
        ("cudagraph_capture_sizes", ["a"], "is not a list of whole numbers"),
        ("cudagraph_capture_sizes", [0, 4], "whole numbers from 1 up"),
        ("kv_cache_dtype_skip_layers", 3, "3 is not a list of texts"),
        ("kv_cache_dtype_skip_layers", [{}], "is not a list of texts"),
        ("kv_cache_dtype_skip_layers", ["last"], "a layer's index, sliding_window"),
        ("kv_cache_dtype_skip_layers", ["12"], "layers are 0 to 11"),
        ("limit_mm_per_prompt", {"image": "x"}, "image count is 'x'"),
        ("limit_mm_per_prompt", {"image": {"width": -1}}, "image width is -1"),
        ("gpu", 3, "neither the name of a GPU"),
        ("gpu", [], "neither the name of a GPU"),
        ("vllm_version", 0.33, "is not a version"),
        ("vllm_version", "0.33\x1b[31m", "is not a version"),
        ("planner", 3, "one of auto"),
        ("machine", 3, "is not a Machine"),
    ],
)
def test_values_of_a_wrong_type(name: str, value: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        plan_of("gpt2", **{**GIVEN, name: value})
    message = str(caught.value)
    assert words in message
    assert message.isprintable()


@given(
    st.sampled_from([field.name for field in fields(EngineArgs)]),
    st.sampled_from([None, "x", 3, -1, 2.5, True, [], {}, {"a": 1}, b"", object(), (1,), ("x",)]),
)
def test_every_field_takes_or_refuses_anything(name: str, value: Any) -> None:
    try:
        EngineArgs(**{name: value})
    except PlannerError as error:
        assert str(error).isprintable()


def test_numbers_python_will_not_print() -> None:
    for values in ({"max_model_len": 10**5000}, {"hf_overrides": {"n_layer": 10**5000}}):
        with pytest.raises(InputError, match="digits"):
            plan_of("gpt2", **{**GIVEN, **values})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_model_length", "did you mean --max-model-len"),
        ("swap_space", "has no --swap-space"),
        ("port", "leave it out"),
    ],
)
def test_unknown_keywords(name: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=hint):
        plan_of("gpt2", **{**GIVEN, name: 1})


@pytest.mark.parametrize(
    "values",
    [
        {"seq_len": "5"},
        {"seq_len": 5.5},
        {"seq_len": None},
        {"seq_len": True},
        {"seq_len": 10**40},
        {"seq_len": 5, "batch_size": "x"},
        {"seq_len": 5, "dtype": None},
        {"seq_len": 5, "dtype": 3},
    ],
)
def test_estimates_of_nonsense(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        estimate_kv_cache("gpt2", **values)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("half", "float16"), ("float16", "float16"), ("bfloat16", "bfloat16"), ("float32", "float32")],
)
def test_dtypes_by_any_name(dtype: str, stored: str) -> None:
    assert estimate_kv_cache("gpt2", seq_len=16, dtype=dtype).dtype == stored


def test_the_dtype_of_sparse_latents_is_the_stored_one() -> None:
    found = estimate_kv_cache("deepseek-ai/DeepSeek-V3.2", seq_len=64, dtype="fp8")
    assert found.dtype == "fp8_ds_mla"


def test_messages_are_one_printable_line() -> None:
    assert str(PlannerError("a\n  b\x1b[31m\x00\udc80")) == "a b\\x1b[31m\\x00\\udc80"
    assert len(str(InputError("x" * 10**6))) == 2000
    assert str(pickle.loads(pickle.dumps(UnknownNameError("a b")))) == "a b"


def test_a_plan_can_be_hashed_copied_and_pickled() -> None:
    plan = plan_of("gpt2", **GIVEN)
    again = pickle.loads(pickle.dumps(plan))
    assert again == copy.deepcopy(plan) == plan
    assert hash(again) == hash(plan)
    assert isinstance(again, Plan)
    assert dataclasses.replace(plan, fits=False).fits is False
    shape = dataclasses.fields(ModelInfo)
    assert shape[0] is dataclasses.fields(ModelInfo)[0]  # made once


def test_a_length_beyond_reason_names_limit_and_config(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**GPT2, "n_positions": 10**15}))
    with pytest.raises(InputError) as caught:
        plan_of(path, **GIVEN)
    assert str(caught.value).startswith(f"{path}: ")
    assert "at most 281,474,976,710,656" in str(caught.value)


NO_TEXT = (5, 5.5, [], {}, b"x", Path("x"))
FEW = {"prompt_tokens": "5", "output_tokens": "5", "requests": 2}


def test_files_are_named_as_text_or_path(tmp_path: Path) -> None:
    rows = sweep("gpt2", gpus="L4", output=tmp_path / "rows.csv", workers=1)
    assert rows.output == str(tmp_path / "rows.csv")
    trace = tmp_path / "trace.csv"
    trace.write_text("prompt_tokens,output_tokens\n1,2\n")
    assert len(list(RequestSource(trace=trace).open().requests)) == 1
    for value in NO_TEXT[:-1]:
        with pytest.raises(InputError, match="is no file name"):
            sweep("gpt2", gpus="L4", output=value)
        with pytest.raises(InputError, match="is no file name"):
            RequestSource(trace=value).open()
        with pytest.raises(InputError, match="is no file name"):
            VLLMPlanner(python=value)
    with pytest.raises(PlannerError, match="cannot be started"):
        VLLMPlanner(python=tmp_path / "nothing").plan("gpt2", gpu="L4")


@pytest.mark.parametrize("value", NO_TEXT)
def test_other_objects_than_models_and_requests(value: Any) -> None:
    request = plan_request("gpt2", gpu="L4")
    if value not in ([], {}):
        with pytest.raises(InputError):
            compare_models(value, lengths=[5])
    for words in (value, [value], ("vllm", value)):
        with pytest.raises(InputError):
            plan_launch(words)
    with pytest.raises(InputError, match="not a PlanRequest"):
        run_workload(value, [])
    if value not in ([], {}):
        with pytest.raises(InputError, match="trace"):
            run_workload(request, value)
    with pytest.raises(InputError, match="is not a TraceRequest"):
        run_workload(request, [value])
    for flags in (5, "x", [1]):
        with pytest.raises(PlannerError, match=r"scheduler.flag"):
            run_workload(request, [], scheduler_flags=flags)


@pytest.mark.parametrize(
    "name",
    [
        *("prompt_tokens", "output_tokens", "requests", "rate", "arrivals", "burstiness"),
        *("concurrency", "scale", "step_time", "shared_prefix", "prefixes", "seed"),
        *("trace_format", "trace_model", "trace_tokenizer"),
    ],
)
def test_requests_of_another_type(name: str) -> None:
    for value in ([], {}, b"x", Path("x"), True):
        with pytest.raises(InputError, match=f"{name}: .* is not"):
            RequestSource(**{**FEW, name: value}).open()


@pytest.mark.parametrize("workers", [0, -1, 1025, 10**9, True, 2.0, "2"])
def test_workers_have_bounds(workers: Any) -> None:
    with pytest.raises(InputError, match="a whole number, 1 to 1,024"):
        sweep("gpt2", gpus="L4", workers=workers)
    for grid in (5, "x", []):
        if grid:
            with pytest.raises(InputError, match="grid"):
                sweep("gpt2", grid=grid)
    with pytest.raises(InputError, match="setups"):
        sweep("gpt2", setups=5)


@pytest.mark.parametrize("value", [0, 1.5, object(), {1: 2}, "x", Path("x")])
def test_callables_lists_and_planners_of_another_type(value: Any) -> None:
    with pytest.raises(PlannerError, match="progress"):
        sweep(["gpt2"], gpus="L4", grid={"tp": [1]}, progress=value)
    with pytest.raises(PlannerError, match=r"planner: .* is no VLLMPlanner"):
        plan_engine("gpt2", planner=value)
    with pytest.raises(PlannerError):
        paging("gpt2", scenarios=value)
    with pytest.raises(PlannerError, match="is not the name of a flag"):
        sweep(["gpt2"], gpus="L4", grid={7: [1]})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "beside",
    [
        {"gpu": "L4"},
        {"planner": "standalone"},
        {"vllm_version": "0.30"},
        {"machine": Machine(other_processes_bytes=1 << 30)},
        {"max_model_len": 512},
    ],
    ids=str,
)
def test_a_request_is_planned_as_it_is(beside: dict[str, Any]) -> None:
    request = plan_request("gpt2", gpu="L4")
    assert plan_of(request).kv_cache == plan_of("gpt2", gpu="L4").kv_cache
    with pytest.raises(InputError, match=f"{next(iter(beside))}: a PlanRequest says it itself"):
        plan_of(request, **beside)
