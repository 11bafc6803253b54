"""What drafting adds to the weights of the last pipeline stage's ranks.

Source: vLLM 0.33 ``v1/worker/gpu/spec_decode/eagle/utils.py`` ``load_eagle_model``,
``standalone_ar/speculator.py`` ``load_draft_model``: tensors are cut by the target's ranks
whatever ``draft_tensor_parallel_size`` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...config.named_quantization import weights_unknown
from ...engine_args.quantization import resolve_quantization
from ...errors import UnsupportedError
from ...model.config import Config
from ...model.description import ModelDescription
from ...records import replace
from .architectures.draft import mtp
from .architectures.eagle import dflash, eagle
from .architectures.facts import Facts
from .architectures.families import build, family
from .architectures.ropes import rope_parameters
from .modules import Module, Rotary
from .quantization.choose import quantization as quantization_of
from .rank import Place, Rank
from .tensor import Tensor

if TYPE_CHECKING:
    from ...engine_args.setup import EngineSetup

_WITHOUT_WEIGHTS = ("ngram", "ngram_gpu", "suffix", "extract_hidden_states")


def own_quantization(setup: EngineSetup) -> str | None:
    """The quantisation method of a draft model with a checkpoint of its own.

    Raises:
        UnsupportedError: The target's head is quantised for it, or nobody says how it is itself.
    """
    draft, speculative = setup.draft, setup.resolved.speculative
    if speculative is not None and speculative.head_quantization is not None:
        raise UnsupportedError(
            "--speculative-config: draft_lm_head_quantization makes a copy of the head whose size "
            "is not known to the stand-alone planner; --planner vllm can answer"
        )
    if draft is None or speculative is None or draft.method == "mtp":
        return None
    method = resolve_quantization(
        speculative.quantization,
        draft.model.config,
        architecture=draft.model.architecture,
        allow_deprecated=setup.args.allow_deprecated_quantization,
    )
    named = draft.model.unstated_quantization
    if named is not None and method is None:
        raise UnsupportedError(f"draft model: {weights_unknown(named)}")
    return method


def draft_tensors(
    target: Facts,
    rank: Rank,
    method: str | None,
    draft: ModelDescription | None,
    *,
    quantization: str | None = None,
    over_stages: bool = False,
    max_model_len: int = 0,
) -> list[Tensor]:
    """What drafting adds on the last stage.

    Args:
        target: The model it drafts for.
        rank: A rank of the last stage.
        method: How it drafts (``Speculative.method``), if it does.
        draft: The draft model, where it has a checkpoint of its own.
        quantization: Its quantisation method.
        over_stages: Whether the target's embedding lies on another stage.
        max_model_len: The engine's.

    Raises:
        UnsupportedError: The method's draft model is not known here.
    """
    if method is None or method in _WITHOUT_WEIGHTS:
        return []
    if method == "mtp" and draft is None:
        return placed(mtp(target, over_stages=over_stages), rank)
    if draft is None:
        raise UnsupportedError(f"weights of the draft model ({method}) need its config")
    row = family(draft.architecture) or {}
    own = quantization_of(quantization, draft.config, is_composite="wrapper" in row)
    rank = replace(rank, quantization=own)
    facts = Facts(
        description=draft,
        text=Config(draft.text_config, "config.json of the draft model"),
        top=Config(draft.config, "config.json of the draft model"),
        capability=target.capability,
        version=target.version,
    )
    if method == "draft_model":
        tree = build(facts)
        layers = range(len(tree.layers))
        modules = tree.stage_modules(layers, is_first=True, is_last=True)
        made = [replace(each, part="draft") for each in tree.tensors(modules, rank)]
        return own_ropes(made, facts, target)
    if method == "dflash":
        block = dflash(facts, target, over_stages=over_stages, max_model_len=max_model_len)
        return own_ropes(placed(block, rank), facts, target)
    if method not in ("eagle", "eagle3"):
        raise UnsupportedError(
            f"weights of {method} draft models are not known to the stand-alone planner; "
            "--planner vllm can answer"
        )
    drafted = eagle(facts, target, method, over_stages=over_stages, max_model_len=max_model_len)
    return own_ropes(placed(drafted, rank), facts, target)


def own_ropes(tensors: list[Tensor], draft: Facts, target: Facts) -> list[Tensor]:
    """The draft's tensors; its rotary caches told from the target's unless they are the same."""
    same = rope_key(draft) == rope_key(target)
    seen: set[object] = set()
    kept: list[Tensor] = []
    for each in tensors:
        if isinstance(each.shared, Rotary):
            if each.shared in seen:
                continue
            seen.add(each.shared)
            own = each.shared if same else replace(each.shared, variant="draft")
            kept.append(replace(each, shared=own))
        else:
            kept.append(each)
    return kept


def rope_key(facts: Facts) -> tuple[object, ...]:
    """What tells one rope of a size from another."""
    found = dict(rope_parameters(facts.text))
    base = found.pop("rope_theta", None) or facts.text.get("rope_theta")
    kind = found.pop("rope_type", None) or found.pop("type", None) or "default"
    return kind, base, *sorted(map(repr, found.items()))


def placed(modules: Iterable[Module], rank: Rank) -> list[Tensor]:
    """The modules' tensors on this rank, as the draft's."""
    place = Place(rank, part="draft")
    return [tensor for module in modules for tensor in module.tensors(place)]
