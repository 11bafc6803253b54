"""The model runner and speculative decoding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vllm_kv_planner.engine_args.engine_args import EngineArgs, EngineEnvironment
from vllm_kv_planner.engine_args.runner import resolve_runner
from vllm_kv_planner.engine_args.speculative import limit_to_draft, resolve_speculative
from vllm_kv_planner.errors import InputError

from .engine_cases import facts


def run(env: EngineEnvironment | None = None, **flags: Any) -> tuple[bool, bool, int]:
    runner_type = flags.pop("runner_type", "generate")
    args = EngineArgs(**flags)
    runner = resolve_runner(
        args,
        facts(runner_type=runner_type),
        resolve_speculative(args),
        env or EngineEnvironment(),
    )
    return runner.uses_v2, runner.async_scheduling, runner.max_concurrent_batches


def test_runner() -> None:
    v1 = EngineEnvironment(use_v2_model_runner=False)
    assert run() == (True, True, 2)
    assert run(pipeline_parallel_size=4) == (True, True, 5)
    assert run(v1) == (False, True, 2)
    assert run(v1, pipeline_parallel_size=4) == (False, False, 4)
    assert run(async_scheduling=False) == (True, False, 1)
    assert run(runner_type="pooling") == (True, False, 1)
    suffix: dict[str, Any] = {"method": "suffix", "num_speculative_tokens": 4}
    assert run(speculative_config=suffix) == (False, False, 1)
    assert run(enable_dbo=True) == (False, True, 2)
    with pytest.raises(InputError, match="not supported by the V1 model runner with pipeline"):
        run(v1, pipeline_parallel_size=2, async_scheduling=True)
    with pytest.raises(InputError, match="V2 does not yet support: speculative method 'suffix'"):
        run(EngineEnvironment(use_v2_model_runner=True), speculative_config=suffix)
    with pytest.raises(InputError, match="V1 does not support: prefill context parallel"):
        run(v1, prefill_context_parallel_size=2)


@pytest.mark.parametrize(
    ("config", "method", "lookahead", "prefill_lookahead"),
    [
        ({"method": "ngram", "num_speculative_tokens": 5}, "ngram", 0, 0),
        ({"model": "ngram", "num_speculative_tokens": 5}, "ngram", 0, 0),
        ({"model": "a/small", "num_speculative_tokens": 5}, "draft_model", 5, 0),
        ({"model": "yuhuili/EAGLE3-LLaMA", "num-speculative-tokens": 3}, "eagle3", 3, 1),
        ({"method": "deepseek_mtp", "num_speculative_tokens": 1}, "mtp", 1, 1),
        ({"model": "a/dflash-x", "num_speculative_tokens": 7}, "dflash", 8, 1),
    ],
)
def test_speculative(
    config: dict[str, Any], method: str, lookahead: int, prefill_lookahead: int
) -> None:
    found = resolve_speculative(EngineArgs(speculative_config=config))
    assert found is not None
    assert found.method == method
    assert found.num_lookahead_tokens == lookahead
    assert found.num_prefill_lookahead_tokens == prefill_lookahead


def test_speculative_shortcuts_and_refusals() -> None:
    assert resolve_speculative(EngineArgs()) is None
    args = EngineArgs(spec_method="eagle3", spec_model="a/b", spec_tokens=3)
    found = resolve_speculative(args)
    assert found is not None
    assert (found.method, found.model, found.num_speculative_tokens) == ("eagle3", "a/b", 3)
    for config, message in (
        ({"method": "eagle3", "num_speculative_tokens": 3}, "needs a draft model"),
        ({"method": "ngram"}, "must be provided"),
        ({"method": "ngram", "num_speculative_tokens": 0}, "a whole number above 0"),
    ):
        with pytest.raises(InputError, match=message):
            resolve_speculative(EngineArgs(speculative_config=config))
    with pytest.raises(InputError, match="mutually exclusive"):
        resolve_speculative(EngineArgs(spec_method="ngram", speculative_config={"method": "mtp"}))


def test_draft_model_limits_the_length() -> None:
    draft = resolve_speculative(
        EngineArgs(speculative_config={"model": "a/small", "num_speculative_tokens": 1})
    )
    assert draft is not None
    assert limit_to_draft(8192, 2048, draft, uses_v2=True) == 2048
    assert limit_to_draft(8192, 2048, draft, uses_v2=False) == 8192
    eagle = replace(draft, method="eagle3")
    assert limit_to_draft(8192, 2048, eagle, uses_v2=True) == 8192
    yarn = ("yarn",)
    assert limit_to_draft(8192, 2048, eagle, uses_v2=True, draft_rope_types=yarn) == 2048
