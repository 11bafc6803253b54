"""vLLM 0.33's own profile run, executed for a GPU that is not there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.shared import config_files
from tests.vllm_python import CUDA, interpreter
from vllm_kv_planner import Plan, VLLMPlanner
from vllm_kv_planner.engine_args.engine_args import EngineEnvironment
from vllm_kv_planner.memory.activation import activation_peak, runner_buffers
from vllm_kv_planner.memory.rank import Rank
from vllm_kv_planner.memory.versions import version_rules
from vllm_kv_planner.planning.request import PlanRequest, plan_request
from vllm_kv_planner.planning.standalone import StandalonePlan
from vllm_kv_planner.records import replace
from vllm_kv_planner.vllm_adapter.budget import plan_with_budget

PYTHON = interpreter(CUDA)
MIB = 1 << 20


@pytest.fixture(scope="module")
def planner() -> Iterator[VLLMPlanner]:
    with VLLMPlanner(python=PYTHON) as planner:
        yield planner


def asked(model: str, **flags: Any) -> PlanRequest:
    return plan_request(str(config_files()[model]), gpu="H100", planner="vllm", **flags)


# Weights by the rules restated here, which vLLM's own count must meet; sampler by hand: bf16
# logits, and float32 ones, masked ones and probabilities (FlashInfer's), of 1,024 requests, beside
# the hidden states of 8,192 tokens and of the sampled ones.
@pytest.mark.parametrize(
    ("model", "tp", "hidden", "vocab"),
    [
        ("Qwen/Qwen3-8B", 1, 4096, 151_936),
        ("Qwen/Qwen3-8B-FP8", 1, 4096, 151_936),
        ("Qwen/Qwen3-30B-A3B", 1, 2048, 151_936),
        ("openai/gpt-oss-20b", 1, 2880, 201_088),
        ("Qwen/Qwen3-Next-80B-A3B-Thinking", 4, 2048, 151_936),
    ],
)
def test_weights_and_sampler(
    planner: VLLMPlanner, model: str, tp: int, hidden: int, vocab: int
) -> None:
    request = asked(model, tensor_parallel_size=tp)
    answer = planner.profile(request)
    assert answer["refused"] == {}
    mine = StandalonePlan(request)
    assert answer["weights_bytes"] == pytest.approx(mine.weights.loaded_bytes[0], rel=0.001)
    rank = Rank(setup=mine.setup, rules=version_rules(mine.version))
    buffers = sum(size for _, size in runner_buffers(rank))
    assert answer["buffers_bytes"] == pytest.approx(buffers, rel=0.02)
    kept = max(answer["kept_bytes"], 0)
    logits = 1024 * vocab * (2 + 4 + 4 + 4)
    states = (8192 + 1024) * hidden * 2
    assert answer["phases"]["sampler"] == pytest.approx(logits + states + kept, rel=0.02)


def test_forward_of_a_dense_layer(planner: VLLMPlanner) -> None:
    """Uncompiled, four tensors of the stream's width live beside gate, up and their product.

    The residual, the layer's input, which its caller holds, the normed stream and the product of
    the last matrix; 8,192 tokens of 4,096 and 12,288.
    """
    answer = planner.profile(asked("Qwen/Qwen3-8B"))
    stream, activated = 8192 * 4096 * 2, 8192 * 12288 * 2
    forward = 4 * stream + 2 * activated + activated
    assert answer["phases"]["forward"] == pytest.approx(forward, rel=0.001)


def test_the_plan_says_what_was_executed(planner: VLLMPlanner) -> None:
    plan = plan_with_budget(asked("Qwen/Qwen3-8B"), planner.plan_request, profile=planner.profile)
    memory = plan.memory
    assert [(phase.name, phase.executed) for phase in memory.phases] == [
        ("forward", True),
        ("sampler", True),
    ]
    how = memory.provenance["activation_peak_bytes"]
    assert how.startswith("vLLM 0.33's own profile run, executed without a GPU (eager)")
    assert parts(plan) == memory.available_kv_cache_bytes
    assert plan.to_dict()["memory"]["phases"][0]["name"] == "forward"


def test_what_is_not_followed_is_restated_by_name(planner: VLLMPlanner) -> None:
    """Images: no config holds a processor's files."""
    request = asked("google/gemma-3-27b-it")
    plan = plan_with_budget(request, planner.plan_request, profile=planner.profile)
    memory = plan.memory
    assert ("encoder", False) in [(phase.name, phase.executed) for phase in memory.phases]
    assert "encoder restated: its processor needs" in memory.provenance["activation_peak_bytes"]
    assert parts(plan) == memory.available_kv_cache_bytes


def test_only_what_is_compiled_is_in_more_doubt(planner: VLLMPlanner) -> None:
    """The band reaches from the executed peak to the restated one of the compiled graph."""
    for eager in (True, False):
        request = asked("Qwen/Qwen3-8B", enforce_eager=eager, max_num_seqs=16)
        plan = plan_with_budget(request, planner.plan_request, profile=planner.profile)
        mine = StandalonePlan(request).memory.infos[0]
        apart = plan.memory.activation_peak_bytes - mine.activation_peak_bytes
        assert (apart < MIB) is eager  # 832 MiB; of the compiled graph 768
        wider = math.hypot(mine.uncertainty_bytes, 0 if eager else apart)
        assert plan.memory.uncertainty_bytes == int(wider)


def test_an_older_runner_and_its_sampler(planner: VLLMPlanner) -> None:
    """Model Runner V1: float32 logits, probabilities and noise, and Triton's rows for 132 SMs.

    Its hidden states are made anew for the sampler; the scratch stays.
    """
    older = EngineEnvironment(use_v2_model_runner=False)
    request = replace(asked("Qwen/Qwen3-8B"), environment=older)
    answer = planner.profile(request)
    assert answer["refused"] == {}
    mine = StandalonePlan(request)
    rank = Rank(setup=mine.setup, rules=version_rules(mine.version))
    assert not rank.uses_v2
    sampler = next(each for each in activation_peak(rank).phases if each.name == "sampler")
    total = sampler.total_bytes(split_limited=True)
    assert answer["phases"]["sampler"] == pytest.approx(total, rel=0.02)


def test_workspaces_are_sized_by_the_final_block(planner: VLLMPlanner) -> None:
    """Gated delta's states inside a prefill: 48 heads of 128 x 128, in float32, one a block.

    The block is settled once the model is there, and with it how many of 8,192 tokens' states are
    kept: 832 tokens here, where 16 would be 1.5 GiB. The sampler's own MiB comes on top.
    """
    request = asked("Qwen/Qwen3.5-27B")
    states = -(-8192 // StandalonePlan(request).setup.context.block_size)
    kept = planner.profile(request)["kept_bytes"]
    assert kept == pytest.approx(states * 48 * 128 * 128 * 4 + MIB, rel=0.01)


def test_a_draft_counts(planner: VLLMPlanner) -> None:
    """Qwen3-Next's own layers for further tokens: weights, buffers, and a longer forward phase."""
    plain = asked("Qwen/Qwen3-Next-80B-A3B-Thinking", tensor_parallel_size=4)
    speculative = {"method": "mtp", "num_speculative_tokens": 2}
    drafting = plain.with_args(speculative_config=speculative)
    one, two = planner.profile(plain), planner.profile(drafting)
    assert two["refused"] == {}
    weights = StandalonePlan(drafting).weights.loaded_bytes[0]
    assert two["weights_bytes"] == pytest.approx(weights, rel=0.001)
    assert two["buffers_bytes"] > one["buffers_bytes"]
    assert two["phases"]["forward"] > one["phases"]["forward"]


def test_a_format_that_cannot_be_followed_is_named(planner: VLLMPlanner) -> None:
    """Hopper has no FP4 units; the library that stands in asks the driver for the device."""
    request = asked("nvidia/Qwen3.6-35B-A3B-NVFP4")
    plan = plan_with_budget(request, planner.plan_request, profile=planner.profile)
    mine = StandalonePlan(request).memory.infos[0]
    assert plan.memory.activation_peak_bytes == mine.activation_peak_bytes
    assert plan.memory.weights_bytes == mine.weights_bytes
    assert plan.memory.phases == ()
    how = plan.memory.provenance["activation_peak_bytes"]
    assert "vLLM's own profile run was not followed (load: " in how
    assert "humming/" in how


def parts(plan: Plan) -> int:
    memory = plan.memory
    taken = (
        memory.weights_bytes,
        memory.activation_peak_bytes,
        memory.cuda_graph_bytes,
        memory.non_torch_bytes,
    )
    return (memory.requested_bytes or 0) - sum(part or 0 for part in taken)
