"""What a rule reads (description, config, the row's options), and the tree that it makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....model.config import Config
from ....model.defaults import defaults_for
from ....model.description import ModelDescription
from ....records import dataclass, field, replace
from ..modules import Module
from ..rank import Place, Rank, Tensor

Option = bool | str | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One model in front of a rule.

    Attributes:
        text: The language model's config, its class's defaults behind it.
        options: The family table's row.
        prefix: Name of the language model in vLLM's model: ``language_model`` or empty.
        capability: Of the device, for what models build only on some.
        mm_limits: ``--limit-mm-per-prompt``: items a request may have, by modality.
    """

    description: ModelDescription
    text: Config
    top: Config
    options: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    version: tuple[int, int] = (0, 33)
    capability: tuple[int, int] = (9, 0)
    mm_limits: Mapping[str, int] = field(default_factory=dict)
    language_model_only: bool = False

    def with_options(self, options: Mapping[str, Any], prefix: str | None = None) -> Facts:
        """The same model in front of another rule."""
        return replace(self, options=options, prefix=self.prefix if prefix is None else prefix)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.text.int("hidden_size", "n_embd", "d_model")

    @property
    def intermediate(self) -> int:
        """Width inside an MLP; four times the hidden size where GPT-2's kin say nothing."""
        if keys := self.options.get("mlp_width"):
            return self.text.int(*str(keys).split("|"))
        return self.text.int(
            *("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "dim_feedforward"),
            default=4 * self.hidden,
        )

    @property
    def num_layers(self) -> int:
        """Decoder layers."""
        return self.description.num_hidden_layers

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.description.num_attention_heads

    @property
    def kv_heads(self) -> int:
        """KV heads."""
        return self.description.num_kv_heads

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.description.head_size

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self.text.int("vocab_size", "padded_vocab_size")

    def builds_tower(self, *modalities: str) -> bool:
        """Whether a tower for these is loaded: any of them may come (``_mark_tower_model``)."""
        if self.language_model_only:
            return False
        return any(self.mm_limits.get(modality, 1) > 0 for modality in modalities)

    def tied(self) -> bool:
        """Whether the output head is the embedding."""
        said = self.options.get("tied")
        if isinstance(said, bool):
            return said
        for config in (Config(self.top.data, ""), self.text, self.top):
            value = config.get("tie_word_embeddings")
            if value is not None:
                return bool(value)
        return False

    def flag(self, name: str, default: Option = False) -> bool:
        """A yes or no of the row: as it stands, or where in the config it is (``key|other``).

        ``key else other``: the second only where the config does not have the first.
        """
        said = self.options.get(name, default)
        if not isinstance(said, str):
            return bool(said)
        if said.startswith("not "):
            return not self._said(said[4:])
        first, _, other = said.partition(" else ")
        return self._said(other if other and self.text.get(first) is None else first)

    def _said(self, keys: str) -> bool:
        return any(bool(self.text.get(key)) for key in keys.split("|"))

    def names(self, name: str, default: Sequence[str]) -> Sequence[str]:
        """A list of names of the row."""
        return list(self.options.get(name, default))

    def label(self, name: str, default: str) -> str:
        """A name of the row."""
        return str(self.options.get(name, default))


@dataclass(frozen=True, kw_only=True)
class WeightTree:
    """A model's modules.

    Attributes:
        embedding: Token embeddings: first stage, and the last one too where the head is tied.
        first: What else only the first stage builds: towers, position tables.
        layers: Decoder layers, one module each.
        last: Final norm and head: last stage.
        head: The output head; None where it is the embedding.
        everywhere: Built by every stage: buffers.
        tied: The head is the embedding.
        on_every_stage: Of ``embedding``, ``first``, ``last`` and ``head`` those for which the class
            does not ask which stage it is on.
    """

    embedding: tuple[Module, ...]
    layers: tuple[Module, ...]
    last: tuple[Module, ...] = ()
    head: Module | None = None
    first: tuple[Module, ...] = ()
    everywhere: tuple[Module, ...] = ()
    tied: bool = False
    on_every_stage: frozenset[str] = frozenset()

    def stage_modules(self, layers: range, *, is_first: bool, is_last: bool) -> list[Module]:
        """What the stage with these layers builds."""
        every = self.on_every_stage
        chosen: list[Module] = [*self.everywhere]
        if is_first or "first" in every:
            chosen += self.first
        if is_first or (is_last and self.tied) or "embedding" in every:
            chosen += self.embedding
        chosen += self.layers[layers.start : layers.stop]
        if is_last or "last" in every:
            chosen += self.last
        if self.head is not None and (is_last or "head" in every):
            chosen.append(self.head)
        return chosen

    def tensors(self, modules: Sequence[Module], rank: Rank) -> Iterator[Tensor]:
        """What a rank registers for these modules, each shared tensor once."""
        seen: set[object] = set()
        root = Place(rank)
        for module in modules:
            for tensor in module.tensors(root):
                if tensor.shared is not None:
                    if tensor.shared in seen:
                        continue
                    seen.add(tensor.shared)
                yield tensor


def part(facts: Facts, key: str, fallback_type: str = "") -> Config | None:
    """``vision_config`` or the like; None where the model has none.

    ``fallback_type``: its ``model_type``, where neither it nor the outer class says.
    """
    outer = defaults_for(facts.top.str("model_type", default="")).get(key)
    outer = outer if isinstance(outer, dict) else {}
    if key in facts.top.data and facts.top.data[key] is None:
        return None
    config = facts.top.opt_sub(key) or Config({}, facts.top.where, prefix=f"{key}.")
    kind = config.opt_str("model_type") or outer.get("model_type") or fallback_type
    own = defaults_for(str(kind)) or defaults_for(fallback_type)
    return config.with_defaults({**own, **outer})
