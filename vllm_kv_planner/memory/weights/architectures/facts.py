"""What a rule reads: the model's description and config, and the row's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....model.config import Config
from ....model.description import ModelDescription
from ....records import dataclass, field, replace

Option = bool | str | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One model in front of a rule.

    Attributes:
        description: As ``model/`` has it.
        text: The language model's config, its class's defaults behind it.
        top: The whole config.
        options: The family table's row.
        prefix: Name of the language model in vLLM's model: ``language_model`` or empty.
        version: Of vLLM; where older ones are known to differ, they do.
        capability: Of the device, for what models build only on some.
        mm_limits: ``--limit-mm-per-prompt``: items a request may have, by modality.
        language_model_only: ``--language-model-only``.
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
        """A yes or no of the row: as it stands, or where in the config it is (``key|other``)."""
        said = self.options.get(name, default)
        if not isinstance(said, str):
            return bool(said)
        if said.startswith("not "):
            return not self._said(said[4:])
        return self._said(said)

    def _said(self, keys: str) -> bool:
        return any(bool(self.text.get(key)) for key in keys.split("|"))

    def number(self, name: str, default: int | None = None) -> int | None:
        """A number of the row: as it stands, or where in the config it is."""
        said = self.options.get(name)
        if said is None:
            return default
        if isinstance(said, int):
            return said
        return self.text.opt_int(*str(said).split("|"), minimum=0)

    def names(self, name: str, default: Sequence[str]) -> Sequence[str]:
        """A list of names of the row."""
        return list(self.options.get(name, default))

    def label(self, name: str, default: str) -> str:
        """A name of the row."""
        return str(self.options.get(name, default))
