"""Names and patterns of layers in quantization_config: matched as vLLM does, at bounded cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hostile_configs import (
    DEEP,
    LLAMA,
    MOE,
    JsonDict,
    awq,
    fp8,
    gptq,
    modelopt,
    planned,
    tensors,
)
from tests.work import calls_in
from vllm_kv_planner import PlannerError
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.memory.weights.quantization.integers import Packed
from vllm_kv_planner.memory.weights.quantization.names import Parts, SkippedLayers, Targets
from vllm_kv_planner.memory.weights.quantization.patterns import Pattern, Patterns

NESTED = ["re:(a+)+$", "re:(.*)*x", "re:((.*a)*)*b", "re:(.*.*)*z", "re:(a|a)*b", "re:([^z]*)+z"]
EXPENSIVE: dict[str, Callable[[], tuple[JsonDict, JsonDict]]] = {
    **{
        f"ignore {pattern}": lambda pattern=pattern: (LLAMA, tensors([pattern]))
        for pattern in NESTED
    },
    "targets nested": lambda: (LLAMA, tensors([], [NESTED[3]])),
    "many repeats": lambda: (LLAMA, tensors(["re:" + ".*e" * 9 + "z"])),
    "many options": lambda: (LLAMA, tensors(["re:" + "m?" * 60 + "z"])),
    "counted": lambda: (LLAMA, tensors([r"re:(.{1,60}){1,60}z"])),
    "back reference": lambda: (LLAMA, tensors([r"re:(.*)\1\1\1z"])),
    "long pattern": lambda: (LLAMA, tensors(["re:" + "a" * 5000])),
    "100,000 patterns": lambda: (LLAMA, tensors([f"re:.*{i}$" for i in range(100_000)])),
    "512 patterns": lambda: (DEEP, tensors([rf"re:.*\w.*\w.*{i}z" for i in range(512)])),
    "512 shapes": lambda: (DEEP, tensors([rf"re:.*\w.*\w.*{'z' * (i % 99)}" for i in range(512)])),
    "groups": lambda: (LLAMA, tensors([], [f"a{i}" for i in range(100)], groups=4000)),
    "200,000 names": lambda: (LLAMA, tensors([f"model.layers.{i}.x" for i in range(200_000)])),
    "dynamic": lambda: (LLAMA, gptq(["-:(a+)+$", "-:(.*)*(.*)*x$"])),
    "many dynamic": lambda: (LLAMA, gptq([f"-:.*{i}x" for i in range(100_000)])),
    "AWQ names": lambda: (MOE, awq([f"a{i}" for i in range(150_000)])),
    "AWQ names of a layer": lambda: (MOE, awq([f"layers.1.{i}" for i in range(150_000)])),
    "FP8 experts": lambda: (MOE, fp8([f"experts.{i}" for i in range(150_000)])),
    "FP8 experts of a layer": lambda: (
        MOE,
        fp8([f"model.layers.1.experts.{i}" for i in range(150_000)]),
    ),
    "wildcards": lambda: (LLAMA, modelopt(["*" * 190 + "z", "*a" * 90 + "*b"] * 50)),
    "many wildcards": lambda: (
        LLAMA,
        modelopt([f"model.layers.{i % 32}.*{i}*a*b" for i in range(100_000)]),
    ),
    "long names": lambda: (
        LLAMA,
        modelopt([], quant_algo="MIXED_PRECISION", quantized_layers={"a." * 500_000: {}}),
    ),
    "deep names": lambda: (
        LLAMA,
        modelopt(
            [],
            quant_algo="MIXED_PRECISION",
            quantized_layers={f"{i}." + "a." * 30: {} for i in range(100_000)},
        ),
    ),
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_quantization_costs_little(name: str) -> None:
    config, quantization = EXPENSIVE[name]()
    config = {**config, "quantization_config": quantization}
    for memory in (None, 40 << 30):
        assert calls_in(lambda memory=memory: plan_or_refuse(config, memory)) < 8_000_000


def plan_or_refuse(config: JsonDict, memory: int | None) -> None:
    try:
        planned(config, memory)
    except PlannerError as error:
        assert len(str(error)) < 500
        assert str(error).isprintable()


CHOICES = [
    "(.|.)" * 30 + "[!]",
    "(?:.|..)" * 20 + "[!]",
    "(a|a|a|a)(b|b|b|b)(c|c|c|c)(d|d|d|d)",
    "(?:a|.b)" * 7 + "x",
    "(?:|x)" * 20,
]


@pytest.mark.parametrize("pattern", CHOICES)
def test_choices_open_to_one_text_are_refused(pattern: str) -> None:
    """Twenty in a row that match alike are a million ways to fail, without any repeat."""
    with pytest.raises(UnsupportedError, match="may take far too long"):
        Patterns([pattern])


@pytest.mark.parametrize(
    ("pattern", "cost"),
    [
        ("model.layers.(" + "|".join(map(str, range(40))) + ").mlp", 2),  # "1" and "10"
        (".*(self_attn.(q|k|v|o)|mlp.(gate|up|down))_proj", 30 * 2),  # letters exclude each other
        (r"^(?!.*\.experts\.).*proj$", 30 * 30 // 2),
    ],
)
def test_choices_that_exclude_each_other_cost_little(pattern: str, cost: int) -> None:
    assert Pattern(pattern).cost <= cost


@pytest.mark.parametrize("pattern", [each.removeprefix("re:") for each in NESTED])
def test_nested_repeats_are_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedError, match="may take far too long"):
        Patterns([pattern])


@pytest.mark.parametrize(
    ("pattern", "name", "index"),
    [
        (r".*self_attn.*", "model.layers.0.self_attn.q_proj", 0),
        (r".*mlp\.(gate|up|gate_up|down)_proj.*", "model.layers.3.mlp.up_proj", 0),
        (r".*attn.*(fused_wqa_wkv|wq_b|wo_a|wo_b)$", "layers.7.attn.wo_b", 0),
        (r"model\.layers\.[0-9]+\.mlp\.gate$", "model.layers.12.mlp.gate", 0),
        (r"(?:model\.)?layers\.(0|1|61)\..*", "model.layers.61.mlp.gate", 0),
        (r"(?:model\.)?layers\.(0|1|61)\..*", "model.layers.6.mlp.gate", None),
        (r"^(?!.*(?:q_proj|k_proj)).*$", "model.layers.6.q_proj", None),
        (r".*\[a[(]\]x", "b[a(]x", 0),
    ],
)
def test_published_shapes_of_patterns(pattern: str, name: str, index: int | None) -> None:
    assert Patterns([pattern]).first(name) == index
    assert (name in Targets(["re:" + pattern])) is (index == 0)


def test_names_in_great_number_are_no_patterns() -> None:
    names = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(20_000) for p in "qkv"]
    targets = Targets(names)
    assert "model.layers.19999.self_attn.qkv_proj" in targets
    assert "model.layers.20000.self_attn.qkv_proj" not in targets
    experts = SkippedLayers(f"model.layers.{i}.mlp.experts.0.up_proj" for i in range(60_000))
    assert "model.layers.59999.mlp.experts" in experts
    assert "model.layers.60000.mlp.experts" not in experts


def test_parts_of_names() -> None:
    parts = Parts(["visual", "layers.3.mlp", "model.layers.4.*"], has_wildcards=True)
    assert parts.match("visual.blocks.0.attn.qkv")
    assert parts.match("model.layers.3.mlp.gate_up_proj")
    assert not parts.match("model.layers.13.mlp.gate_up_proj")
    assert parts.match("model.layers.4.mlp.down_proj")
    assert not Parts(["model.layers.4.*"]).match("model.layers.4.mlp.down_proj")


def test_dynamic_rules_in_order() -> None:
    # ``get_dynamic_override``: the first rule that matches decides
    rules = [r"+:.*\.0\.mlp.*", r"-:.*mlp.*", r"-:.*o_proj"]
    packed = Packed(gptq(rules), is_composite=False)
    assert packed.linear("model.layers.0.mlp.down_proj") is not None
    assert packed.linear("model.layers.1.mlp.down_proj") is None
    assert packed.linear("model.layers.1.self_attn.o_proj") is None
    assert packed.linear("model.layers.1.self_attn.qkv_proj") is not None
