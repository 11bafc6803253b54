"""Speculative decoding, as far as blocks and batches depend on it.

Restates parts of ``SpeculativeConfig`` (vllm/config/speculative.py) and of ``VllmConfig``
(``num_lookahead_tokens``, ``num_prefill_lookahead_tokens``; vllm/config/vllm.py) of 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..records import dataclass
from .engine_args import EngineArgs

_EAGLE_LIKE = ("eagle", "eagle3", "mtp", "dflash", "dspark")
# Words in a draft model's name that tell its method, in vLLM's order.
_BY_NAME = (("eagle-", "eagle"), ("eagle3", "eagle3"), ("dflash", "dflash"), ("dspark", "dspark"))
_WITHOUT_MODEL = {
    "mtp": None,  # the target's own checkpoint
    "dspark": None,
    "ngram": "ngram",
    "ngram_gpu": "ngram_gpu",
    "suffix": "suffix",
    "extract_hidden_states": "extract_hidden_states",
}


@dataclass(frozen=True, kw_only=True)
class Speculative:
    """A draft method and its numbers."""

    method: str
    """ngram, draft_model, eagle, eagle3, mtp, dflash, dspark, suffix, …"""
    model: str | None
    """The draft model; None where it is the target's checkpoint or there is none."""
    num_speculative_tokens: int | None
    """None: the draft model's config says (``n_predict``, a block size)."""
    parallel_drafting: bool = False
    kv_cache_dtype: str | None = None
    draft_tensor_parallel_size: int | None = None
    max_model_len: int | None = None
    use_heterogeneous_vocab: bool = False
    disable_padded_drafter_batch: bool = False
    num_mtp_layers: int = 1
    """``num_nextn_predict_layers`` of the draft, for multi-module MTP."""
    samples_from_anchor: bool = True
    """DSpark only."""

    @property
    def uses_eagle(self) -> bool:
        """Whether it drafts from the target's hidden states (``use_eagle``)."""
        return self.method in _EAGLE_LIKE

    @property
    def has_draft_layers(self) -> bool:
        """Whether draft layers join the KV cache specs (``uses_draft_kv_cache``)."""
        return self.uses_eagle or self.method in ("draft_model", "extract_hidden_states")

    @property
    def num_lookahead_tokens(self) -> int:
        """KV slots reserved past the target's tokens."""
        tokens = self.num_speculative_tokens or 0
        if self.method == "dflash" or (self.method == "dspark" and not self.samples_from_anchor):
            return tokens + 1
        return tokens if self.uses_eagle or self.method == "draft_model" else 0

    @property
    def num_prefill_lookahead_tokens(self) -> int:
        """Prefill tokens past the computed range that the drafter reads."""
        if not self.uses_eagle:
            return 0
        tokens = self.num_speculative_tokens or 0
        if self.method == "mtp" and min(self.num_mtp_layers, tokens) > 1:
            return tokens
        return 1


def merged_speculative_config(args: EngineArgs) -> Mapping[str, Any] | None:
    """``--speculative-config`` with the ``--spec-*`` short cuts in it, keys with underscores."""
    given = args.speculative_config
    shortcuts = {
        "method": args.spec_method,
        "model": args.spec_model,
        "num_speculative_tokens": args.spec_tokens,
    }
    set_shortcuts = {key: value for key, value in shortcuts.items() if value is not None}
    if given is None and not set_shortcuts:
        return None
    config = {key.replace("-", "_"): value for key, value in (given or {}).items()}
    for key, value in set_shortcuts.items():
        if key in config:
            flag = "tokens" if key == "num_speculative_tokens" else key
            raise InputError(
                f"--spec-{flag} and --speculative-config['{key}'] are mutually exclusive"
            )
        config[key] = value
    return config


def resolve_speculative(args: EngineArgs) -> Speculative | None:
    """What drafts, or None. Raises InputError for a config that says too little or nonsense."""
    config = merged_speculative_config(args)
    if config is None:
        return None
    model = config.get("model")
    method = _method(config.get("method"), model)
    tokens = config.get("num_speculative_tokens")
    if tokens is not None and (not isinstance(tokens, int) or tokens < 1):
        raise InputError(
            f"--speculative-config: num_speculative_tokens is {str(tokens)[:40]}; "
            "it must be a positive integer"
        )
    if model is None and method not in _WITHOUT_MODEL:
        raise InputError(
            f"--speculative-config: method {method!r} needs a draft model ('model': ...)"
        )
    if tokens is None and method in ("ngram", "ngram_gpu"):
        raise InputError("--speculative-config: num_speculative_tokens must be provided")
    if "tensor_parallel_size" in config:
        raise InputError(
            "--speculative-config: 'tensor_parallel_size' is not valid there; "
            "use 'draft_tensor_parallel_size'"
        )
    if tokens is None and method == "suffix":
        tokens = int(config.get("suffix_decoding_max_tree_depth", 24))
    return Speculative(
        method=method,
        model=model if method not in ("ngram", "ngram_gpu", "suffix") else None,
        num_speculative_tokens=tokens,
        parallel_drafting=bool(config.get("parallel_drafting")) or method in ("dflash", "dspark"),
        kv_cache_dtype=config.get("kv_cache_dtype"),
        draft_tensor_parallel_size=config.get("draft_tensor_parallel_size"),
        max_model_len=config.get("max_model_len"),
        use_heterogeneous_vocab=bool(config.get("use_heterogeneous_vocab")),
        disable_padded_drafter_batch=bool(config.get("disable_padded_drafter_batch")),
    )


def _method(given: Any, model: Any) -> str:
    if given is None:
        if model in ("ngram", "[ngram]"):
            return "ngram"
        given = "draft_model"
    method = str(given)
    if method in ("ngram", "[ngram]"):
        return "ngram"
    if method.endswith("_mtp"):
        return "mtp"
    if method == "draft_model" and isinstance(model, str):
        for word, found in _BY_NAME:
            if word in model.lower():
                return found
    return method
