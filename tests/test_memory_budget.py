"""The memory budget: CUDA graphs, the parts together, and what real engines said."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.memory_engines import GIB, MIB, V1, rank_of, setup_of
from tests.shared import records
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.engine_args.engine_args import EngineEnvironment
from vllm_kv_planner.engine_args.setup import EngineSetup
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.memory.budget import memory_budget, requested_bytes
from vllm_kv_planner.memory.cuda_graphs import captures, graph_estimate
from vllm_kv_planner.memory.experts import rocm_padding
from vllm_kv_planner.memory.overheads import known_overheads
from vllm_kv_planner.memory.rank import Rank
from vllm_kv_planner.memory.rank_budget import Weights
from vllm_kv_planner.memory.versions import version_rules
from vllm_kv_planner.memory.weights import setup_weights
from vllm_kv_planner.planning.memory import _parts
from vllm_kv_planner.records import replace

SWEEP = "h100_v0.19_sweep.jsonl"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_captured_sizes() -> None:
    sizes = captures(rank_of(setup_of()))
    assert (len(sizes.piecewise), len(sizes.full), sizes.full[-1]) == (51, 51, 512)
    small = captures(rank_of(setup_of(gpu="L4")))
    assert (len(small.piecewise), len(small.full)) == (51, 35)  # as logs of 256 requests say
    assert len(captures(rank_of(setup_of("openai/gpt-oss-20b"))).piecewise) == 83
    scout = captures(rank_of(setup_of("meta-llama/Llama-4-Scout-17B-16E-Instruct")))
    assert (scout.mode, len(scout.full)) == ("PIECEWISE", 0)


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"cudagraph_mode": "none"}, "NONE"),
        ({"cudagraph_mode": "CUDAGraphMode.PIECEWISE"}, "PIECEWISE"),
        ({"cudagraph_mode": "FULL_DECODE_ONLY"}, "FULL_DECODE_ONLY"),
        ({"cudagraph_mode": 2}, "FULL"),
        ({}, "FULL_AND_PIECEWISE"),
    ],
)
def test_capture_modes(config: dict[str, Any], mode: str) -> None:
    assert captures(rank_of(setup_of(compilation_config=config))).mode == mode


def test_enforce_eager_frees_the_graphs() -> None:
    for version in ("0.22.0", "0.33.0"):
        captured = memory_budget(setup_of(), 15 * GIB, vllm_version=version)
        eager = memory_budget(setup_of(enforce_eager=True), 15 * GIB, vllm_version=version)
        assert captured.cuda_graph_bytes > 0 == eager.cuda_graph_bytes
        assert eager.available_kv_cache_bytes > captured.available_kv_cache_bytes


@pytest.mark.parametrize(
    ("version", "environment", "deducted"),
    [("0.19.0", V1, False), ("0.20.0", V1, True), ("0.28.0", None, False), ("0.29.0", None, True)],
)
def test_which_versions_deduct_the_graphs(
    version: str, environment: EngineEnvironment | None, deducted: bool
) -> None:
    budget = memory_budget(setup_of(environment=environment), 15 * GIB, vllm_version=version)
    assert (budget.cuda_graph_bytes > 0) is deducted
    not_estimated = replace(environment or EngineEnvironment(), estimate_cudagraphs=False)
    spared = memory_budget(setup_of(environment=not_estimated), 0, vllm_version=version)
    assert spared.cuda_graph_bytes == 0


def test_flash_attention_3_accumulators_by_hand() -> None:
    costs = known_overheads().graphs
    estimate = graph_estimate(rank_of(setup_of()), costs)
    accumulators = 32 * 512 * 32 * 128 * 4
    further = 50 * 32 * (costs.piecewise_bytes_per_layer + costs.full_bytes_per_layer)
    assert accumulators == 256 * MIB
    assert estimate.estimate_bytes == accumulators + costs.first_full_bytes + further
    assert estimate.num_graphs == 102


def test_requested_rounds_up_as_vllm_does() -> None:
    assert requested_bytes(100, 0.925) == 93
    assert requested_bytes(85_029_158_912, 0.9) == 76_526_243_021


def test_the_parts_add_up_and_the_tightest_rank_decides() -> None:
    setup = setup_of(pipeline_parallel_size=2)
    budget = memory_budget(
        setup, lambda stage: Weights(size_bytes=(7 + stage) * GIB, uncertainty_bytes=1)
    )
    assert budget.available_kv_cache_bytes == (
        budget.requested_bytes
        - budget.weights_bytes
        - budget.activation_peak_bytes
        - budget.non_torch_bytes
        - budget.cuda_graph_bytes
        - budget.reserve_bytes
    )
    assert budget.weights_bytes == 8 * GIB
    assert budget.pessimistic_bytes == min(
        rank.available_bytes - rank.uncertainty_bytes for rank in budget.ranks
    )
    assert all(budget.provenance.values())


def test_images_reserve_and_unknown_versions() -> None:
    kept = memory_budget(setup_of("google/gemma-3-4b-it", mm_ipc_gpu_memory_gb=1.0), GIB)
    assert kept.reserve_bytes == GIB
    assert memory_budget(setup_of(mm_ipc_gpu_memory_gb=1.0), GIB).reserve_bytes == 0
    for version in ("0.9.2", "0.34.0", "1.0", "nightly", ""):
        with pytest.raises(UnsupportedError, match="memory rules are known"):
            memory_budget(setup_of(), GIB, vllm_version=version)


def test_a_full_gpu_does_not_start() -> None:
    budget = memory_budget(setup_of(), 15 * GIB, free_memory_bytes=40 * GIB)
    assert not budget.starts
    assert memory_budget(setup_of(), 15 * GIB).starts_surely
    tight = memory_budget(setup_of(gpu_memory_utilization=0.99), 15 * GIB, vllm_version="0.19.0")
    assert not tight.starts_surely


def test_every_overhead_names_its_source_and_versions() -> None:
    path = Path(__file__).parents[1] / "vllm_kv_planner" / "memory" / "overheads.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    for kind in ("non_torch", "warm_up", "unexplained", "at_start"):
        for row in found[kind]:
            assert row["source"], row
            size = row["share"] if kind == "unexplained" and "share" in row else row["mib"]
            assert size >= 0 <= row.get("spread_mib", 0), row
    assert found["cuda_graphs"]["source"]
    devices = {row["device"] for row in found["non_torch"]}
    assert None in devices, "every device must find a row"


def test_nothing_heavy_is_imported() -> None:
    budget = importlib.import_module("vllm_kv_planner.memory.budget")
    assert not {"torch", "vllm", "numpy"} & set(vars(budget))


SWEPT = [row for row in records(SWEEP) if row.get("activation_gib")]


@pytest.mark.parametrize("row", SWEPT, ids=lambda row: str(row["id"]))
def test_the_sweep_of_real_engines(row: dict[str, Any]) -> None:
    ground_truth = importlib.import_module("benchmarks.ground_truth")
    case = ground_truth.as_case(SWEEP, row)
    assert isinstance(case, ground_truth.Case), case
    budget = memory_budget(case.setup, int(row["model_load_gib"] * GIB), vllm_version=case.version)
    first = budget.ranks[0]
    assert first.available_bytes / GIB == pytest.approx(row["available_kv_gib"], rel=0.02)
    if first.activation.peak.name == "sampler":
        assert first.activation.peak_bytes / GIB == pytest.approx(row["activation_gib"], abs=0.0055)


def test_another_total_changes_only_what_is_requested() -> None:
    setup = setup_of()
    smaller = replace_total(setup, 60 * GIB)
    full, less = (memory_budget(each, 15 * GIB) for each in (setup, smaller))
    assert full.activation_peak_bytes == less.activation_peak_bytes
    assert full.requested_bytes - less.requested_bytes == (
        full.available_kv_cache_bytes - less.available_kv_cache_bytes
    )


def replace_total(setup: EngineSetup, total: int) -> EngineSetup:
    records_module = importlib.import_module("vllm_kv_planner.records")
    gpu = records_module.replace(setup.gpu, torch_total_bytes=total)
    changed: EngineSetup = records_module.replace(setup, gpu=gpu)
    return changed


def test_a_variable_before_the_command_keeps_the_graphs_out_of_the_budget() -> None:
    """VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS=0: vLLM captures them all the same, afterwards."""
    from vllm_kv_planner.engine_args.serve_command import parse_serve_command
    from vllm_kv_planner.planner import plan_of
    from vllm_kv_planner.planning.request import PlanRequest

    def memory(line: str) -> int:
        command = parse_serve_command(line)
        plan = plan_of(
            PlanRequest(
                found=find_config("gpt2"),
                args=command.engine_args,
                gpu="L4",
                environment=command.environment,
            )
        )
        return plan.memory.cuda_graph_bytes or 0

    assert memory("vllm serve gpt2") > 0
    assert memory("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS=0 vllm serve gpt2") == 0


def test_a_start_from_the_compile_cache_has_the_second_table_more() -> None:
    """Qwen3-32B-AWQ on an RTX 5090, 0.28: 5.16 GiB compiled, 3.0 at 0.70 from the cache.

    At 0.70 a start that compiles has a table of 1.449 GiB less twice: in its peak, and kept.
    """
    setup = setup_of("Qwen/Qwen3-32B-AWQ", gpu="RTX 5090", gpu_memory_utilization=0.7)
    table = 151936 * 5120 * 2
    budget = memory_budget(setup, int(18.13 * GIB), vllm_version="0.28")
    first = budget.ranks[0]
    assert first.outside.cold_bytes == pytest.approx(table, rel=0.01)
    assert first.activation.least_bytes < first.activation.peak_bytes
    warm = budget.available_kv_cache_bytes + budget.upside_bytes
    assert warm / GIB == pytest.approx(3.0, abs=0.25)
    assert budget.uncertainty_bytes >= budget.upside_bytes
    assert budget.pessimistic_bytes == first.available_bytes - first.uncertainty_bytes


def test_when_the_table_stays() -> None:
    """Not at 0.27.1 (RTX 4090), not from 0.32 on, not on ROCm, and only where it compiles."""

    def kept(gpu: str, version: str, **args: Any) -> int:
        setup = setup_of("Qwen/Qwen3-4B", gpu=gpu, **args)
        return memory_budget(setup, 8 * GIB, vllm_version=version).ranks[0].outside.cold_bytes

    assert kept("RTX 4090", "0.28") > 700 * MIB
    assert kept("RTX 4090", "0.27.1") == kept("RTX 4090", "0.32") == 0
    assert kept("MI300X", "0.28") == kept("RTX 4090", "0.28", enforce_eager=True) == 0


def test_parts_err_on_their_own() -> None:
    """The band is the root of the parts' squares, and the rest that no part explains is in it."""
    rank = memory_budget(setup_of(gpu="L4"), Weights(size_bytes=GIB, uncertainty_bytes=GIB)).ranks[
        0
    ]
    parts = (GIB, rank.activation.uncertainty_bytes, rank.outside.uncertainty_bytes)
    graphs = rank.graphs.uncertainty_bytes if rank.graphs.deducted_bytes else 0
    assert rank.uncertainty_bytes == int(sum(part**2 for part in (*parts, graphs)) ** 0.5)
    assert rank.outside.uncertainty_bytes == 175 * MIB  # the figure's own spread, which is more


def test_a_few_graphs_cost_a_third_of_a_gib_outside_hopper() -> None:
    """Qwen2.5-7B-AWQ on an RTX 3090 with 8 sequences, 0.22, printed 0.35 GiB."""
    few = {"max_num_seqs": 8, "max_model_len": 4096, "dtype": "float16"}
    setup = setup_of("Qwen/Qwen2.5-7B-Instruct", gpu="RTX 3090", **few)
    graphs = memory_budget(setup, 6 * GIB, vllm_version="0.22").ranks[0].graphs
    assert graphs.deducted_bytes / GIB == pytest.approx(0.35, abs=0.05)


def test_rocm_pads_unquantised_experts() -> None:
    """Qwen3-30B-A3B on an MI300X, 0.28: 86.8 GiB printed where 110.4 were planned without."""
    plain = setup_of("Qwen/Qwen3-30B-A3B", gpu="MI300X")
    rank = Rank(setup=plain, rules=version_rules("0.28"))
    pads, holes = rocm_padding(rank)
    # rows of 2,048 and 768 elements, each with 128 more, in 48 layers of 128 experts
    assert pads == 48 * 128 * (2 * 768 + 2048) * 256
    # of a freed 768 MiB segment the padded down projection takes 448
    assert holes == 48 * (768 - 448) * MIB
    assert rocm_padding(Rank(setup=plain, rules=version_rules("0.24"))) == (pads, 0)
    for other in (
        setup_of("Qwen/Qwen3-30B-A3B", gpu="H100"),
        setup_of("Qwen/Qwen3-30B-A3B-FP8", gpu="MI300X"),
        setup_of("Qwen/Qwen3-8B", gpu="MI300X"),
    ):
        assert rocm_padding(Rank(setup=other, rules=version_rules("0.28"))) == (0, 0)


def test_before_0_12_the_band_reaches_up_to_flashinfers_sampler() -> None:
    """Images with FlashInfer installed printed about 14 bytes a logit, others 38."""
    setup = setup_of("Qwen/Qwen2-7B-Instruct", gpu="A100", max_num_seqs=256)
    old = memory_budget(setup, 15 * GIB, vllm_version="0.10.1")
    first = old.ranks[0].activation
    logits = 256 * 152064
    assert first.peak_bytes - first.least_bytes == pytest.approx(24 * logits, rel=0.02)
    assert old.uncertainty_bytes > old.upside_bytes == first.peak_bytes - first.least_bytes
    assert memory_budget(setup, 15 * GIB, vllm_version="0.12").upside_bytes == 0


def test_the_band_is_the_same_whoever_reads_the_budget() -> None:
    setup = setup_of(pipeline_parallel_size=2)
    budget = memory_budget(setup, 8 << 30)
    told = [_parts(rank, version_rules("0.33")) for rank in budget.ranks]
    tightest = min(told, key=lambda each: each.available_kv_cache_bytes or 0)
    assert tightest.available_kv_cache_bytes == budget.available_kv_cache_bytes
    assert tightest.uncertainty_bytes == budget.uncertainty_bytes
    assert tightest.weights_bytes == budget.weights_bytes
    assert tightest.provenance == dict(budget.provenance)


def test_pooling_models_ran_on_v1_and_capture_pieces_only() -> None:
    """Qwen3-Embedding-0.6B on an RTX 5090, 0.28: 7.31 GiB of 0.3, with an estimate taken off."""
    setup = setup_of(
        "Qwen/Qwen3-Embedding-0.6B",
        gpu="RTX 5090",
        runner="pooling",
        max_model_len=2048,
        gpu_memory_utilization=0.3,
    )
    assert captures(rank_of(setup, "0.28")).mode == "PIECEWISE"
    old, new = (rank_of(setup, version).uses_v2 for version in ("0.28", "0.33"))
    assert (old, new) == (False, True)
    budget = memory_budget(setup, int(1.12 * GIB), vllm_version="0.28")
    assert budget.cuda_graph_bytes > 0
    assert budget.available_kv_cache_bytes / GIB == pytest.approx(7.31, abs=0.2)


def test_a_copy_without_its_list_of_exceptions_is_unsure() -> None:
    """Nemotron-3-Super-NVFP4 with MTP on a GB10 printed 75.03 GiB; its bundled copy has no list."""
    flags = {"speculative_config": {"method": "mtp", "num_speculative_tokens": 3}}
    nemotron = setup_weights(
        setup_of("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", gpu="GB10", **flags)
    )
    assert abs(nemotron.num_bytes[0] - 75.03 * GIB) < nemotron.uncertainty_bytes
    assert any("lists no layer" in note for note in nemotron.notes)
    whole = setup_weights(setup_of("nvidia/GLM-5.2-NVFP4", gpu="B200", tensor_parallel_size=8))
    assert whole.uncertainty_bytes < 0.03 * whole.num_bytes[0]
    assert not any("lists no layer" in note for note in whole.notes)
