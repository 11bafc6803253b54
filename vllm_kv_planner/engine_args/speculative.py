"""Speculative decoding, as far as blocks, batches and lengths depend on it.

Restates parts of ``SpeculativeConfig`` (vllm/config/speculative.py) and of ``VllmConfig``
(``num_lookahead_tokens``, ``num_prefill_lookahead_tokens``, ``_limit_max_model_len_to_draft``;
vllm/config/vllm.py) of 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError, nearest
from ..files.json_file import shown
from ..records import dataclass, replace
from .engine_args import EngineArgs
from .flag_table import flag_of
from .lengths import ModelLength, resolve_max_model_len, rope_parameters, rope_type

if TYPE_CHECKING:
    from ..model.draft import Draft


LARGEST = 1 << 40
"""Of a count in the object; far above any that makes sense."""
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
    """Of the draft's cache; None: the engine's."""
    attention_backend: str | None = None
    """Of the draft; None: the engine's choice."""
    quantization: str | None = None
    """Of a draft with a checkpoint of its own."""
    draft_tensor_parallel_size: int | None = None
    max_model_len: int | None = None
    use_heterogeneous_vocab: bool = False
    disable_padded_drafter_batch: bool = False
    samples_probabilistically: bool = False
    """Whether the draft's logits are kept for the verification."""
    head_quantization: str | None = None
    """Of a copy of the target's output head made for the draft."""
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


def resolve_speculative(args: EngineArgs, draft: Draft | None = None) -> Speculative | None:
    """What drafts, or None; with what its config says, once that is known.

    Raises:
        InputError: A config that says too little, or nonsense.
    """
    asked = asked_for(args)
    if asked is None or draft is None:
        return asked
    tokens, n_predict = asked.num_speculative_tokens or 0, draft.n_predict
    if n_predict and tokens > n_predict and tokens % n_predict:
        raise InputError(
            f"--speculative-config: num_speculative_tokens:{tokens} must be divisible by "
            f"n_predict={n_predict}"
        )
    return replace(asked, method=draft.method, num_mtp_layers=draft.num_mtp_layers)


def asked_for(args: EngineArgs) -> Speculative | None:
    """What the flags say of it."""
    config = merged_speculative_config(args)
    if config is None:
        return None
    model = text_of(config, "model")
    method = _method(text_of(config, "method"), model)
    tokens = count_of(config, "num_speculative_tokens")
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
    ranks = count_of(config, "draft_tensor_parallel_size")
    if ranks not in (None, 1, args.tensor_parallel_size):
        raise InputError(
            f"--speculative-config: draft_tensor_parallel_size={ranks} cannot be other value than "
            "1 or target model tensor_parallel_size"
        )
    if tokens is None and method == "suffix":
        tokens = count_of(config, "suffix_decoding_max_tree_depth") or 24
    backend = text_of(config, "attention_backend", flag_of("attention_backend").names)
    return Speculative(
        method=method,
        model=model if method not in ("ngram", "ngram_gpu", "suffix") else None,
        num_speculative_tokens=tokens,
        parallel_drafting=bool(config.get("parallel_drafting")) or method in ("dflash", "dspark"),
        kv_cache_dtype=text_of(config, "kv_cache_dtype", flag_of("kv_cache_dtype").names),
        attention_backend=None if backend == "AUTO" else backend,
        quantization=text_of(config, "quantization", flag_of("quantization").names),
        draft_tensor_parallel_size=ranks,
        max_model_len=count_of(config, "max_model_len"),
        use_heterogeneous_vocab=bool(config.get("use_heterogeneous_vocab")),
        disable_padded_drafter_batch=bool(config.get("disable_padded_drafter_batch")),
        head_quantization=text_of(config, "draft_lm_head_quantization", ("fp8", "nvfp4")),
        samples_probabilistically=config.get("draft_sample_method") == "probabilistic",
    )


def text_of(config: Mapping[str, Any], key: str, choices: Sequence[str] = ()) -> str | None:
    """A name of the object, one of ``choices`` where there are any (those in capitals in any case).

    Raises:
        InputError: It is none.
    """
    value: str | None = config.get(key)
    if value is None:
        return None
    if not value:
        raise InputError(f"--speculative-config: {key} is {shown(value)}; it must be a name")
    if choices and choices[0].isupper():
        value = value.upper()
    if choices and value not in (*choices, "AUTO"):
        near = nearest(value, choices, 3, 0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"--speculative-config: {key} is {shown(value)}, which is none{hint}")
    return value


def count_of(config: Mapping[str, Any], key: str) -> int | None:
    """A positive number of the object.

    Raises:
        InputError: It is none.
    """
    value = config.get(key)
    if value is None:
        return None
    if not 0 < value <= LARGEST:
        raise InputError(
            f"--speculative-config: {key} is {shown(value)}; it must be a positive integer"
        )
    return int(value)


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


def limited_length(
    length: ModelLength, speculative: Speculative, draft: Draft, *, uses_v2: bool
) -> ModelLength:
    """``max_model_len`` once the draft had its say (``_limit_max_model_len_to_draft``).

    Raises:
        InputError: The draft's ``max_model_len`` is longer than the draft, or the target.
    """
    text, asked = draft.model.text_config, speculative.max_model_len
    own = resolve_max_model_len(None, text, target_max_model_len=length.max_model_len)
    for other, whose in ((own.max_model_len, "draft"), (length.max_model_len, "target")):
        if asked is not None and asked > other:
            raise InputError(
                f"--speculative-config: max_model_len={asked} cannot be larger than the "
                f"{whose} model's {other}"
            )
    limit = limit_to_draft(
        length.max_model_len,
        asked or min(own.max_model_len, length.max_model_len),
        speculative,
        uses_v2=uses_v2,
        draft_rope_types=tuple(rope_type(each) for each in rope_parameters(text)) or ("default",),
    )
    if limit == length.max_model_len:
        return length
    note = (
        f"the draft model takes no more than {limit:,} tokens, so neither does the engine "
        f"(max_model_len {length.max_model_len:,} otherwise)"
    )
    return replace(length, max_model_len=limit, note=note)


def limit_to_draft(
    max_model_len: int,
    draft_max_model_len: int,
    speculative: Speculative,
    *,
    uses_v2: bool,
    draft_rope_types: tuple[str, ...] = ("default",),
) -> int:
    """``max_model_len`` once the draft model had its say; tokens.

    V2 cannot skip drafting for longer requests. Drafts that share the target's positions (all
    but independent draft models, with a RoPE that only sizes a cache) do not limit it.
    """
    cache_only = {"default", "linear", "llama3", "ntk", "proportional"}
    shares = speculative.method != "draft_model" and set(draft_rope_types) <= cache_only
    if not uses_v2 or shares:
        return max_model_len
    return min(max_model_len, draft_max_model_len)
