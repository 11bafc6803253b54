"""What is asked of ``fit`` beside the model: prices, variants, machines, flags, and nonsense."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner.capacity.fit.fit import fit
from vllm_kv_planner.errors import InputError, PlannerError
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request

from .fit_cases import MODELS


def test_prices_come_first() -> None:
    prices = {"L4": 0.8, "H100": 3.0, "A100": 1.4}
    result = fit(
        "meta-llama/Llama-3.1-8B-Instruct", context=32768, concurrency=12, prices=prices, top=100
    )
    assert set(result.gpus) == {"L4-24GB", "H100-SXM-80GB", "A100-SXM-80GB"}
    costs = [offer.price for offer in result.offers]
    assert None not in costs and costs == sorted(costs, key=float)
    assert result.best is not None
    assert (result.best.gpu, result.best.price) == ("A100-SXM-80GB", 1.4)
    with pytest.raises(InputError, match="--price: none for H200-141GB"):
        fit("gpt2", gpu="H200", prices=prices)


def test_variants_are_tried_after_the_model_itself() -> None:
    result = fit(
        "meta-llama/Llama-3.1-70B-Instruct",
        gpu="H100",
        context=8192,
        variants=["hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"],
        max_gpus=2,
    )
    assert result.models[0] == "meta-llama/Llama-3.1-70B-Instruct"
    first = result.offers[0]
    assert (first.model, first.num_gpus) == (result.models[1], 1)
    two = [offer.model for offer in result.offers if offer.num_gpus == 2]
    assert two[0] == result.models[0]


def test_several_machines() -> None:
    """Llama 3.1 405B in bfloat16: 756 GiB of weights; sixteen H100 on two machines."""
    asked: dict[str, Any] = {"gpu": "H100", "context": 8192, "top": 1000}
    model = "meta-llama/Llama-3.1-405B-Instruct"
    assert fit(model, **asked).offers == ()
    result = fit(model, max_nodes=2, **asked)
    assert result.max_gpus == 16 and result.offers
    for offer in result.offers:
        assert offer.num_nodes == 2 and offer.num_gpus % 2 == 0
        assert offer.tensor_parallel_size <= 8
        assert len(offer.node_commands) == 2
        assert offer.command == offer.node_commands[0]
    first, second = result.offers[0].node_commands
    assert "--nnodes 2" in first and "--node-rank 0" in first and "--headless" not in first
    assert "--node-rank 1 --headless" in second
    (ray,) = fit(model, max_nodes=2, launcher="ray", **asked).offers[0].node_commands
    assert ray.endswith("--distributed-executor-backend ray")
    torn = fit(model, max_nodes=2, tensor_parallel_size=16, **asked)
    assert {offer.tensor_parallel_size for offer in torn.offers} == {16}


def test_borderline_only_when_asked_for() -> None:
    """Some context between the sure and the likely longest one."""
    batch = {"max_num_seqs": 256, "max_num_batched_tokens": 2048}
    asked: dict[str, Any] = {"gpu": "L4", "max_gpus": 1, **batch}
    model = "meta-llama/Llama-3.1-8B-Instruct"
    request = plan_request(model, gpu="L4", **batch)
    likely = plan_of(request).kv_cache.max_model_len_that_fits
    context = next(
        length
        for length in range(likely, 0, -256)
        if not plan_of(request.with_args(max_model_len=length)).fits
    )
    (offer,) = fit(model, context=context, borderline=True, **asked).offers
    assert not offer.surely
    (missed,) = fit(model, context=context, **asked).misses
    assert missed.reason == "borderline"


@pytest.mark.parametrize("model", MODELS)
def test_flags_given_stay(model: str) -> None:
    result = fit(
        model,
        gpu="H200",
        max_model_len=1024,
        max_num_seqs=33,
        enforce_eager=True,
        tensor_parallel_size=4 if model != "gpt2" else 1,
    )
    for offer in result.offers:
        assert offer.max_num_seqs == 33 and offer.max_model_len == 1024
        assert "--enforce-eager" in offer.command and "--max-num-seqs 33" in offer.command


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gpu": "H1000"}, "unknown GPU"),
        ({"gpu": []}, "is not the name of a GPU"),
        ({"gpu": 3}, "is not the name of a GPU"),
        ({"gpu": [3]}, "neither the name of a GPU"),
        ({"max_gpus": 0}, "--max-gpus: 0 is not a whole number from 1"),
        ({"max_gpus": True}, "--max-gpus: True"),
        ({"max_nodes": 2.5}, "--max-nodes: 2.5"),
        ({"gpus_per_node": 10**9}, "--gpus-per-node"),
        ({"concurrency": -1}, "--concurrency: -1"),
        ({"concurrency": 10**9}, "--concurrency"),
        ({"top": 0}, "--top: 0"),
        ({"context": 0}, "max_model_len must be a positive integer"),
        ({"context": 10**7}, "greater than the derived max_model_len"),
        ({"context": 8, "max_model_len": 9}, "the same thing"),
        ({"kv_cache_dtype": "fp9"}, "fp9"),
        ({"kv_cache_dtype": []}, "none given"),
        ({"kv_cache_dtype": 3}, "is not a text"),
        ({"prices": {"H100": float("nan")}}, "is not a number above 0"),
        ({"prices": {"H1000": 2}}, "unknown GPU"),
        ({"prices": [2]}, "is not a dictionary"),
        ({"launcher": "slurm"}, "one of mp, ray"),
        ({"variants": ["no/such-model-anywhere"]}, "no/such-model-anywhere"),
        ({"tensor_parallel_size": 5, "gpu": "H100"}, "divisible"),
        ({"max_num_seq": 5}, "did you mean"),
        ({"tensor_parallel_size": 16}, "agrees with --tensor-parallel-size 16: tried 1, 2, 3"),
        ({"gpu_counts": [16]}, "tried none of --max-gpus 8"),
        ({"gpu_counts": "8"}, "is not a list of whole numbers"),
    ],
)
def test_nonsense_is_one_line(
    asked: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PlannerError) as caught:
        fit("gpt2", **asked)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
