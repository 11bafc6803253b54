"""A model's config with the files beside it, and where all of it was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records import dataclass, field

QUANT_FILE = "hf_quant_config.json"
"""Beside config.json: where ModelOpt checkpoints before 0.31 keep their quantization config."""
PARAMS_FILE = "params.json"
"""Of Mistral's own format, in place of config.json."""
ADAPTER_FILE = "adapter_config.json"
"""Of a LoRA adapter: its rank, and the model it belongs to."""


@dataclass(frozen=True)
class FoundConfig:
    """A model's config and where it came from.

    Attributes:
        id: The Hub id, or the path as given.
        config: The object in config.json. Not to be changed.
        source: ``local``, ``hf-cache``, ``hub``, ``custom``; of the bundled ones ``bundled``
            (two sources agree), ``bundled-one-source`` or ``bundled-derived``.
        revision: Commit hash where known.
        path: The file read; None for bundled and fetched configs.
        files: Side files present, by name, parsed: ``hf_quant_config.json``,
            ``adapter_config.json``.
        notes: What the reader of a plan should know of where it came from.
    """

    id: str
    config: Mapping[str, Any]
    source: str
    revision: str | None = None
    path: str | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def with_quantization(self) -> Mapping[str, Any]:
        """The config, with the side file's quantization config where it states none itself.

        Source: vLLM 0.33 ``transformers_utils/config.py`` ``get_config``,
        ``model_executor/model_loader/weight_utils.py`` ``get_quant_config``.
        """
        beside = self.files.get(QUANT_FILE)
        own = self.config.get("quantization_config")
        if beside is None or not needs_quant_file(self.config):
            return self.config
        inner = beside.get("quantization") if isinstance(beside, Mapping) else None
        layers = inner.get("quantized_layers") if isinstance(inner, Mapping) else None
        kept = beside if own is None else own
        beside = kept if layers is None else {**kept, "quantized_layers": layers}
        return {**self.config, "quantization_config": beside}


def needs_quant_file(config: Mapping[str, Any]) -> bool:
    """Whether vLLM looks for a quantization config beside this one.

    It does where there is none, and for the layers of a ModelOpt config of mixed precision.
    """
    own = config.get("quantization_config")
    return own is None or (
        isinstance(own, Mapping)
        and own.get("quant_algo") == "MIXED_PRECISION"
        and "quantized_layers" not in own
    )
