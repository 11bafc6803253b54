"""What a draft model asks of the engine: its own maximum length, and room for its tokens.

Source: vLLM 0.33 ``config/vllm.py`` ``_limit_max_model_len_to_draft``,
``_set_max_num_scheduled_tokens``; ``config/speculative.py``
``_maybe_override_draft_max_model_len``; ``engine/arg_utils.py`` ``create_engine_config``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from ..records import replace
from .batch import BatchSizes
from .engine_args import EngineArgs
from .lengths import ModelLength, resolve_max_model_len, rope_parameters, rope_type
from .runner import limit_to_draft
from .speculative import Speculative

if TYPE_CHECKING:
    from ..model.draft import Draft


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


def check_slots(
    args: EngineArgs, speculative: Speculative, batch: BatchSizes, *, uses_v2: bool
) -> None:
    """Refuse batches too small for the draft's tokens, and ranks that its runner does not divide.

    Model Runner V1 runs an independent draft model on all ranks of the target or not at all
    (``DraftModelProposer._raise_if_draft_tp_mismatch``).
    """
    ranks, tokens = args.tensor_parallel_size, batch.max_num_batched_tokens
    own = speculative.draft_tensor_parallel_size or ranks
    if speculative.method == "draft_model" and not uses_v2 and own != ranks:
        raise InputError(
            "Currently, 'draft_tensor_parallel_size' and 'tensor_parallel_size' must be the same. "
            f"Got {own} and {ranks}"
        )
    verified = batch.max_num_seqs * (1 + (speculative.num_speculative_tokens or 0))
    if args.enable_lora and tokens < verified:
        raise InputError(
            f"Consider increasing max_num_batched_tokens ({tokens}) or decreasing "
            f"num_speculative_tokens: with LoRA the batch must hold {verified} tokens, "
            "max_num_seqs x (1 + num_speculative_tokens)"
        )
    lookahead = speculative.num_lookahead_tokens
    if tokens <= lookahead:
        raise InputError(
            "VllmConfig does not have enough slots to schedule a token and support the speculative "
            f"decoding settings. Got max_num_batched_tokens={tokens} and "
            f"num_lookahead_tokens={lookahead}"
        )
