"""Draft models of speculative decoding: what vLLM builds from which config, and its cache layers.

``architectures/drafts.json`` holds the tables:

``mtp``
    Rows by ``model_type`` or architecture of the target's config. ``draft``: vLLM's class.
    ``layers``: which layer is repeated: the ``next`` one the target would have, its ``last`` that
    attends, its ``first``, its first ``full`` or ``windowed`` attention; or ``typed``, the first of
    the type that the config names. ``key``: config key of their number
    (``num_nextn_predict_layers`` by default); ``built``: layers where the config does not say,
    ``always``: whatever it says; ``blocks``: the list of blocks says. ``n_predict``: what the
    config's class has where the key is missing. ``numbered_from``: number of the first layer, where
    it is not the target's next.
``eagle``
    Draft class to the architecture whose layers it has.
``speculators``
    Draft classes of the "speculators" format, by algorithm and type of the layers.
``without_shared_embedding``
    Targets whose token embedding EAGLE's layers cannot take over: it has another name.
``without_eagle3``, ``eagle3_over_stages``
    Targets that hand out no hidden states of inner layers, and those that do so even across
    pipeline stages.

Source: vLLM 0.33 ``config/speculative.py`` ``hf_config_override``,
``transformers_utils/configs/eagle.py``, ``configs/speculators/``, the draft classes of
``model_executor/models/registry.py`` ``_SPECULATIVE_DECODING_MODELS``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ..config.find import FoundConfig
from ..errors import UnsupportedError, printable
from ..files.json_file import read_json, shown
from ..records import dataclass, replace
from .architectures.registry import Row, rule
from .config import Config
from .describe import describe
from .description import ModelDescription
from .layers.attention import Attention
from .layers.base import CacheLayer
from .layers.mamba import StateLayer

NEXT_LAYERS = "num_nextn_predict_layers"


@dataclass(frozen=True, kw_only=True, eq=False)
class Draft:
    """What drafts.

    Attributes:
        method: ``mtp``, ``draft_model``, ``eagle``, ``eagle3`` …, as vLLM ends up calling it.
        architecture: vLLM's class.
        model: What it is described by: its own config, or the target's where it lies within.
        layers: Its cache layers; ``index`` is the number in the layer's name.
        found: Its own config; None where it is the target's.
        n_predict: Tokens it was trained for, where its config says.
        num_mtp_layers: Modules for multi-token prediction.
        use_non_causal: Whether a backend must be able to look ahead; None: as the target.
    """

    method: str
    architecture: str
    model: ModelDescription
    layers: tuple[CacheLayer, ...]
    found: FoundConfig | None = None
    n_predict: int | None = None
    num_mtp_layers: int = 1
    use_non_causal: bool | None = None

    @property
    def summary(self) -> str:
        """One sentence for the reader of the plan."""
        whose = "the model itself" if self.found is None else printable(self.found.id)
        count = len(self.layers)
        layers = "1 cache layer" if count == 1 else f"{count} cache layers"
        return f"speculative decoding with {whose} ({self.method}) adds {layers}"


@cache
def tables() -> Mapping[str, Any]:
    """``drafts.json``."""
    found: Mapping[str, Any] = read_json(__file__, "architectures/drafts.json")
    return found


def mtp_row(config: Mapping[str, Any]) -> Row | None:
    """How vLLM makes an MTP draft of such a config; None where it does not, or nobody knows."""
    kind = config.get("model_type")
    listed = config.get("architectures")
    name = listed[0] if isinstance(listed, list) and listed else None
    rows: Sequence[Row] = tables()["mtp"]
    for each in rows:
        if kind in each.get("types", ()) or name in each.get("architectures", ()):
            # Nemotron-H without such layers stays a model of its own
            return None if each.get("blocks") and not config.get(NEXT_LAYERS) else each
    return None


def mtp_draft(model: ModelDescription, found: FoundConfig | None = None) -> Draft:
    """Layers for multi-token prediction, as the target's family builds them.

    Raises:
        UnsupportedError: vLLM has none for this model, or nobody wrote their rule.
        ConfigError: The checkpoint has none.
    """
    row = mtp_row(model.config)
    if row is None:
        raise UnsupportedError(
            f"speculative method 'mtp': no rule for layers of {model.architecture} that predict "
            "further tokens; --planner vllm can answer"
        )
    key = str(row.get("key", NEXT_LAYERS))
    stated = number_of(model, key)
    if stated is None and "n_predict" in row:
        stated = int(row["n_predict"])
    count = repeats(model, row, stated)
    if not count:
        raise Config(model.config, "config.json").error(
            key, f"is {shown(stated)}: the checkpoint has no layers that predict further tokens"
        )
    return Draft(
        method="mtp",
        architecture=str(row["draft"]),
        model=model,
        layers=tuple(mtp_layers(model, row, count)),
        found=found,
        n_predict=stated,
        num_mtp_layers=number_of(model, NEXT_LAYERS) or 1,
    )


def number_of(model: ModelDescription, key: str) -> int | None:
    """A count the language model's config or the whole one states."""
    for values in (model.text_config, model.config):
        if values.get(key) is not None:
            return Config(values, "config.json").opt_int(key, minimum=0, maximum=64)
    return None


def repeats(model: ModelDescription, row: Row, stated: int | None) -> int:
    """How many layers (of those that keep a cache) the draft has."""
    if row.get("blocks"):
        return attention_blocks(Config(model.text_config, "config.json")) if stated else 0
    if "always" in row:
        return int(row["always"])
    return stated if stated is not None else int(row.get("built", 0))


def attention_blocks(text: Config) -> int:
    """Attention among a Nemotron-H's blocks: ``*E`` is one, and experts."""
    pattern = text.opt_str("mtp_hybrid_override_pattern")
    if pattern is not None:
        return pattern.count("*")
    listed = text.list_of_strs("mtp_layers_block_type", default=("full_attention", "moe"))
    return sum(kind in ("attention", "full_attention") for kind in listed)


def mtp_layers(model: ModelDescription, row: Row, count: int) -> list[CacheLayer]:
    """The row's kind of layer, ``count`` times.

    Raises:
        UnsupportedError: The target has no such layer.
    """
    end = model.num_hidden_layers
    if row["layers"] == "next" and model.reader is not None:
        longer = replace(model.reader, num_hidden_layers=end + count)
        made = rule(longer.options["rule"])(longer)
        return [layer for layer in made if layer.index >= end]
    attending = [layer.index for layer in model.layers if not isinstance(layer, StateLayer)]
    last = max(attending, default=0)
    chosen: Mapping[str, list[CacheLayer]] = {
        "first": list(model.layers[:1]),
        "last": [layer for layer in model.layers if layer.index == last],
        "full": [layer for layer in model.layers if is_full(layer)][:1],
        "windowed": [layer for layer in model.layers if not is_full(layer)][:1],
    }
    kinds = [str(row["layers"])] * count
    if kinds[0] == "typed":
        kinds = ["full" if kind == "full_attention" else "windowed" for kind in typed(model, count)]
    if not all(chosen.get(kind) for kind in kinds):
        raise UnsupportedError(
            f"speculative method 'mtp': no rule for the layers of {model.architecture}; "
            "--planner vllm can answer"
        )
    start = int(row.get("numbered_from", end))
    return [
        replace(layer, index=start + i) for i, kind in enumerate(kinds) for layer in chosen[kind]
    ]


def typed(model: ModelDescription, count: int) -> list[str]:
    """Types of the layers: their own list, else what the target's list has behind its layers.

    Where it has no more, its first ones (``exaone_moe.py``, ``step3p5.py``).
    """
    text = Config(model.text_config, "config.json")
    own = text.list_of_strs("mtp_layer_types", default=())
    stated = model.config.get("text_config", model.config)
    listed = Config(stated if isinstance(stated, Mapping) else {}, "config.json").list_of_strs(
        "layer_types", default=()
    )
    types = own or listed[model.num_hidden_layers :] or listed
    return [types[i] if i < len(types) else "full_attention" for i in range(count)]


def is_full(layer: CacheLayer) -> bool:
    """Plain attention without a window."""
    return isinstance(layer, Attention) and layer.sliding_window is None


def independent_draft(found: FoundConfig, target: ModelDescription) -> Draft:
    """A small model of its own; like every layer, its own take the engine's window if any."""
    model = describe(found.with_quantization, where=where_of(found), name=found.id)
    return Draft(
        method="draft_model",
        architecture=model.architecture,
        model=model,
        layers=tuple(under_engine(model, target, mm_prefix=model.is_mm_prefix_lm)),
        found=found,
    )


def under_engine(
    model: ModelDescription, target: ModelDescription, *, mm_prefix: bool
) -> list[CacheLayer]:
    """The model's layers where the target's cache settings are the engine's.

    A layer without a window of its own takes the engine's, which is the target's
    (``cache_config.sliding_window``).
    """
    reader = model.reader
    assert reader is not None, "described from a config"
    window = None if target.reader is None else target.reader.model_window
    as_run = replace(reader, model_window=window, use_mm_prefix=mm_prefix)
    return list(rule(as_run.options["rule"])(as_run))


def where_of(found: FoundConfig) -> str:
    """Name of the draft's config, for messages."""
    return str(found.path or found.id)
