"""Scenarios of ``paging``: how they are written, and what is no scenario."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner import InputError
from vllm_kv_planner.capacity.paging import Scenario, paging, parse_scenario
from vllm_kv_planner.cli import main

from .paging_cases import one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100x512@8K", (100, 512, 8192)),
        ("1X8k@8K", (1, 8000, 8192)),
        (" 3x777 ", (3, 777, None)),
        ("2K x 1K @ 1M", (2048, 1024, 1 << 20)),
    ],
)
def test_scenarios_as_people_write_them(text: str, expected: tuple[int, int, int | None]) -> None:
    scenario = parse_scenario(text)
    assert (scenario.requests, scenario.tokens, scenario.max_model_len) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "5", "5x", "x5", "5x5@", "5x5x5", "0x5", "5x0", "-1x5", "5x9@8", "1.5x5"),
        *("5x1e3", "nanx5", "5x99999999999", "5x5@99999999999999999999", "9" * 5000 + "x5"),
    ],
)
def test_scenarios_that_cannot_be(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="scenario"):
        parse_scenario(text)
    code = main(["paging", "gpt2", "--scenario", text])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    "scenarios", [[], "100x512@8K", [(1, 2, 3)], [None], [5], Scenario(requests=1, tokens=1)]
)
def test_scenarios_of_the_wrong_type(scenarios: Any) -> None:
    with pytest.raises(InputError, match="scenario"):
        paging("gpt2", scenarios)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, -1, float("nan")])
def test_figures_of_a_scenario(value: Any) -> None:
    with pytest.raises(InputError, match="scenario: requests"):
        Scenario(requests=value, tokens=1)


def test_the_length_of_scenarios_that_state_none() -> None:
    assert one("gpt2", "3x100").max_model_len == 1024
    assert one("gpt2", "3x100", max_model_len=512).max_model_len == 512
    with pytest.raises(InputError, match="in an engine of max_model_len 1,024"):
        one("gpt2", "3x1025")
    with pytest.raises(InputError, match="every scenario states its own"):
        paging("gpt2", max_model_len=512)
