"""What follows attention in a layer: an MLP, or experts with their router.

Source: vLLM 0.33 ``models/llama.py`` ``LlamaMLP``, ``models/qwen3_moe.py``
``Qwen3MoeSparseMoeBlock``, ``models/deepseek_v2.py`` ``DeepseekV2MoE`` and their kin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ....model.architectures.general import EXPERTS
from ....model.config import Config
from ..experts import RoutedExperts
from ..modules import Block, Linear, Module, Weight
from ..quantization.base import PROJECTIONS
from .facts import Facts


def mlp(
    facts: Facts,
    *,
    width: int | None = None,
    name: str | None = None,
    hidden: int | None = None,
    replicated: bool = False,
    part: str = "mlp",
) -> Block:
    """A dense MLP.

    Options of the row: ``mlp`` (its name), ``mlp_width`` (config keys), ``gated``, ``up``,
    ``gate_up``, ``down`` (names inside), ``up_bias``, ``down_bias``, ``mlp_bias`` (both),
    ``split_gate_up``.

    ``hidden``: width outside, where it is not the model's. ``replicated``: every rank holds all of
    it.
    """
    width = facts.intermediate if width is None else width
    hidden = facts.hidden if hidden is None else hidden
    both = facts.flag("mlp_bias")
    up_bias = both or facts.flag("up_bias")
    if not facts.flag("gated", True):
        ups: dict[str, tuple[int, ...]] = {facts.label("up", "up_proj"): (width,)}
    elif facts.flag("split_gate_up"):
        ups = {"gate_proj": (width,), "up_proj": (width,)}
    else:
        ups = {facts.label("gate_up", "gate_up_proj"): (width, width)}
    children = (
        *(
            Linear(label, hidden, widths, "none" if replicated else "column", bias=up_bias)
            for label, widths in ups.items()
        ),
        Linear(
            facts.label("down", "down_proj"),
            width,
            (hidden,),
            "none" if replicated else "row",
            bias=both or facts.flag("down_bias"),
        ),
    )
    return Block(facts.label("mlp", "mlp") if name is None else name, children, part=part)


def moe_options(facts: Facts) -> Mapping[str, Any] | None:
    """The row's ``moe`` where the model has experts at all."""
    found = facts.options.get("moe")
    return found if isinstance(found, dict) else None


def feed_forward(
    facts: Facts, *, dense: Module | None = None, experts: Module | None = None
) -> Callable[[int], Module]:
    """What follows attention in the layer of an index: experts where the row's ``moe`` says so.

    ``dense`` and ``experts`` stand in for ``mlp`` and ``moe``.
    """
    options = moe_options(facts)
    plain = mlp(facts, replicated=facts.flag("mlp_replicated")) if dense is None else dense
    if options is None:
        return lambda index: plain
    routed = moe(facts, options) if experts is None else experts
    return lambda index: routed if is_sparse(facts, options, index) else plain


def num_experts(facts: Facts) -> int:
    """Routed experts of a layer."""
    value = facts.text.get(*EXPERTS)
    if isinstance(value, list):
        return facts.text.list_of_ints(*EXPERTS)[0] if value else 0
    return facts.text.int(*EXPERTS, default=0, minimum=0)


def moe(facts: Facts, options: Mapping[str, Any], *, hidden: int | None = None) -> Block:
    """Router, shared experts, routed experts.

    Keys of the row's ``moe``: ``name``, ``router`` (name of the gate), ``router_dtype``,
    ``router_bias``, ``score_bias`` (``router``, ``block``, ``experts``: who registers
    ``e_score_correction_bias``; with ``score_bias_if`` a key and value that decide), ``width``
    (config key of an expert's), ``shared`` (name), ``shared_count`` and ``shared_width`` (config
    keys), ``shared_gate``, ``bias``, ``experts`` (name), ``gated``.

    ``hidden``: width that experts read, where it is not the model's (latent experts).
    """
    count = num_experts(facts)
    width = _width(facts, options.get("width", "moe_intermediate_size|intermediate_size"))
    router = str(options.get("router", "gate"))
    children: list[Module] = [
        Linear(
            router,
            facts.hidden,
            (count,),
            "none",
            bias=bool(options.get("router_bias")),
            quantised=False,
            dtype=options.get("router_dtype"),
        )
    ]
    # the router's weights are made to add up to one, or never need it
    text = facts.text
    renormalizes = text.get("norm_topk_prob") is not False or text.get("scoring_func") == "sigmoid"
    where = options.get("score_bias")
    decides = options.get("score_bias_if")
    if decides and facts.text.get(decides[0]) != decides[1]:
        where = None
    if where in ("router", "block"):
        inside = f"{router}." if where == "router" else ""
        children.append(Weight(f"{inside}e_score_correction_bias", (count,), dtype="float32"))
    children += shared_experts(facts, options, width)
    children.append(
        RoutedExperts(
            str(options.get("experts", "experts")),
            count,
            facts.hidden if hidden is None else hidden,
            width,
            gated=bool(options.get("gated", True)),
            bias=bool(options.get("bias")),
            score_bias=where == "experts",
            activation=activation(facts),
            renormalizes=renormalizes,
            projections=tuple(options.get("projections", PROJECTIONS)),
        )
    )
    return Block(str(options.get("name", "mlp")), tuple(children), part="experts")


def shared_experts(facts: Facts, options: Mapping[str, Any], width: int) -> list[Module]:
    """An MLP that every token passes, and the gate before it."""
    if not (name := options.get("shared")):
        return []
    total = facts.text.opt_int(
        *str(options.get("shared_width", "shared_expert_intermediate_size")).split("|"), minimum=0
    )
    if total is None or "shared_count" in options:
        times = facts.text.opt_int(
            *str(options.get("shared_count", "n_shared_experts")).split("|"), minimum=0
        )
        total = (times or 0) * (width if total is None else total)
    if not total:
        return []
    found: list[Module] = [mlp(facts, width=total, name=str(name), part="shared experts")]
    if options.get("shared_gate"):
        found.append(Linear("shared_expert_gate", facts.hidden, (1,), "none", quantised=False))
    return found


def _width(facts: Facts, keys: str) -> int:
    names = keys.split("|")
    if isinstance(facts.text.get(*names), list):  # by modality (Ernie): text comes first
        return (facts.text.list_of_ints(*names) or [0])[0]
    return facts.text.int(*names)


def activation(facts: Facts) -> str:
    """The function inside an MLP."""
    said = facts.text.get("hidden_act", "hidden_activation", "mlp_hidden_act")
    return said if isinstance(said, str) else "silu"


def is_sparse(facts: Facts, options: Mapping[str, Any], index: int) -> bool:
    """Whether the layer of this index has experts; ``layers`` of the row's ``moe`` says how.

    ``all``; ``first_dense`` (``first_k_dense_replace`` dense ones, then every
    ``moe_layer_freq``-th); ``step`` (``decoder_sparse_step`` and ``mlp_only_layers``);
    ``interleaved`` (``interleave_moe_layer_step``); ``between`` (Ernie's ``moe_layer_…``);
    ``period`` (Jamba's ``expert_layer_…``). A config that lists its layers (``mlp_layer_types``,
    ``moe_layer_freq``) overrules.
    """
    if not num_experts(facts):
        return False
    text = facts.text
    how = str(options.get("layers", "all"))
    listed, every = text.get("mlp_layer_types"), text.get("moe_layer_freq")
    if how != "step" and isinstance(listed, list) and index < len(listed):
        return bool(listed[index] == "sparse")
    if how != "step" and isinstance(every, list):
        return index < len(every) and bool(every[index])
    return how not in _SPARSE or _SPARSE[how](text, index)


def _by_step(text: Config, index: int) -> bool:
    dense = text.list_of_ints("mlp_only_layers", default=())
    return index not in dense and (index + 1) % text.int("decoder_sparse_step", default=1) == 0


def _after_dense(text: Config, index: int) -> bool:
    every = text.get("moe_layer_freq")
    dense = text.int("first_k_dense_replace", "num_dense_layers", default=0, minimum=0)
    return index >= dense and index % (every if isinstance(every, int) and every else 1) == 0


def _interleaved(text: Config, index: int) -> bool:
    step = text.int("interleave_moe_layer_step", default=1, minimum=0)
    return step > 0 and (index + 1) % step == 0


def _between(text: Config, index: int) -> bool:
    start = text.int("moe_layer_start_index", default=0, minimum=0)
    end = text.opt_int("moe_layer_end_index", minimum=-1)
    inside = index >= start and (end is None or end < 0 or index <= end)
    return inside and (index + 1) % text.int("moe_layer_interval", default=1) == 0


def _by_period(text: Config, index: int) -> bool:
    offset = text.int("expert_layer_offset", default=1, minimum=0)
    sparse = index % text.int("expert_layer_period", default=2) == offset
    return sparse and text.int(*EXPERTS, default=0, minimum=0) > 1


_SPARSE: Mapping[str, Callable[[Config, int], bool]] = {
    "step": _by_step,
    "first_dense": _after_dense,
    "interleaved": _interleaved,
    "between": _between,
    "period": _by_period,
}
