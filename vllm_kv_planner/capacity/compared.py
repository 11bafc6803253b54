"""Models side by side: the record that ``compare`` answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..planning.types import ChangeInfo
from ..records import dataclass
from .answer import Answer

if TYPE_CHECKING:
    from ..report.table import Table


@dataclass(frozen=True, kw_only=True)
class RequestFigures:
    """Requests of one length, in an engine started with that ``max_model_len``.

    Attributes:
        tokens: Prompt and answer of one request.
        request_bytes: Whole blocks of one request, every group's, on one GPU; 0 where the model
            keeps no cache.
        max_concurrency: Requests at once, as vLLM logs it; below 1 the engine does not start. None
            where the KV memory is not known, or the model keeps no cache.
        available_kv_cache_bytes: KV memory of one GPU; None where it is not known.
        fits: Whether the engine starts; None where the KV memory is not known.
    """

    tokens: int
    request_bytes: int
    max_concurrency: float | None
    available_kv_cache_bytes: int | None
    fits: bool | None


@dataclass(frozen=True, kw_only=True)
class ComparedModel:
    """One model of the comparison; sizes in bytes on one GPU.

    Attributes:
        model: As it was named.
        reason: Why it could not be planned, in one line; None where it was. Where only the memory
            is not known, the sizes are there all the same.
        architecture: vLLM's name of the model class.
        config_source: Where its config was found.
        kv_cache_dtype: What the cache is stored in.
        bytes_per_token: One more token of context, in the layers whose cache grows with it.
        max_model_len: What vLLM takes without ``--max-model-len``; None for hand-made models.
        weights_bytes: Weights; None where they are not known.
        available_kv_cache_bytes: KV memory; negative where as much is missing. None: not known.
        max_model_len_that_fits: Longest request that this memory holds; None: not known.
        verdict: Of the engine at ``max_model_len``: ``fits``, ``borderline``, ``does_not_fit``; of
            a model that could not be planned ``refused``. None where the KV memory is not known.
        limits: What decides against it.
        changes: The smallest change that would make it fit.
        at: Figures at every length asked for; None where the model does not reach it.
        at_maximum: Figures at ``max_model_len``.
    """

    model: str
    reason: str | None = None
    architecture: str | None = None
    config_source: str | None = None
    kv_cache_dtype: str | None = None
    bytes_per_token: int | None = None
    max_model_len: int | None = None
    weights_bytes: int | None = None
    available_kv_cache_bytes: int | None = None
    max_model_len_that_fits: int | None = None
    verdict: str | None = None
    limits: tuple[str, ...] = ()
    changes: tuple[ChangeInfo, ...] = ()
    at: tuple[RequestFigures | None, ...] = ()
    at_maximum: RequestFigures | None = None


@dataclass(frozen=True, kw_only=True)
class ModelComparison(Answer):
    """Models side by side.

    Attributes:
        gpu: The GPU of every rank; None where no model could be planned.
        num_gpus: GPUs of one engine.
        lengths: Tokens of the columns ``ComparedModel.at``.
        models: In the order given; one that cannot be planned has a ``reason``.
        notes: Sentences on the flags, which are the same for all.
    """

    gpu: str | None
    num_gpus: int | None
    lengths: tuple[int, ...]
    models: tuple[ComparedModel, ...]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every model was answered."""
        return all(each.reason is None for each in self.models)

    def table(self) -> Table:
        """Every figure of every model, a row each."""
        from ..report.compare_report import full_table

        return full_table(self)

    def __str__(self) -> str:
        from ..report.compare_report import to_text

        return to_text(self)
