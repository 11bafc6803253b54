"""Models side by side: the record that ``compare`` answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..planning.document import change_text
from ..planning.types import ChangeInfo
from ..records import dataclass
from ..report import Answer
from ..report.document import Column, Document, Section, Table, lines_of, noted, table_of
from .paging import HAND_MADE


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
        columns = (*self._request_columns(), *self._engine_columns()[1:], *VERDICT)
        return table_of(self.models, columns)

    def document(self) -> Document:
        """Two tables, what a request takes and what a GPU holds; then who was not planned."""
        gpus = "one GPU" if self.gpu is None else f"{self.num_gpus} x {self.gpu}"
        requests = table_of(self.models, self._request_columns())
        engines = table_of(self.models, self._engine_columns())
        return Document(
            sections=(
                Section("KV cache of one request, on one GPU", (requests,)),
                Section(f"Requests at once, on {gpus}", (engines,)),
                lines_of((*self._remarks(), *noted(self.notes))),
            )
        )

    def _request_columns(self) -> tuple[Column, ...]:
        return (
            MODEL,
            Column("bytes_per_token", "bytes per token", "count"),
            *self._at_lengths("request_bytes", "{:,} tokens", "gib"),
            Column("max_model_len", form="count"),
        )

    def _engine_columns(self) -> tuple[Column, ...]:
        return (
            MODEL,
            Column("weights_bytes", "weights", "gib"),
            Column("available_kv_cache_bytes", "KV memory", "gib"),
            *self._at_lengths("max_concurrency", "of {:,}", "times"),
            Column("max_model_len_that_fits", "fits up to", "count"),
        )

    def _at_lengths(self, figure: str, title: str, form: str) -> Iterator[Column]:
        """A figure of requests of every length, and of the model's maximum."""
        for number, length in enumerate(self.lengths):
            yield Column(f"{figure}_{length}", title.format(length), form, at(number, figure))
        yield Column(f"{figure}_max", "at maximum", form, at(None, figure))

    def _remarks(self) -> Iterator[str]:
        """What the figures mean, and the models without any."""
        said = "requests at once: as vLLM logs it with that --max-model-len"
        yield f"{said}; below 1x it does not start"
        for each in self.models:
            if each.reason is not None:
                what = "not planned" if each.bytes_per_token is None else "memory not known"
                yield f"{what}: {each.model}: {each.reason}"
            elif each.available_kv_cache_bytes is None:
                yield f"{each.model}: {HAND_MADE}"
            elif each.at_maximum is not None and each.at_maximum.request_bytes == 0:
                yield f"{each.model} keeps no KV cache"


def at(number: int | None, figure: str) -> Callable[[ComparedModel], object]:
    """Reads a figure at one of the lengths, or at the maximum; None where there is none."""

    def read(each: ComparedModel) -> object:
        found = each.at_maximum if number is None else each.at[number] if each.at else None
        return None if found is None else getattr(found, figure)

    return read


MODEL = Column("model")
VERDICT = (
    Column("fits", value=at(None, "fits")),
    Column("verdict"),
    Column("limits", value=lambda each: "; ".join(each.limits) or None),
    Column("changes", value=lambda each: "; ".join(map(change_text, each.changes)) or None),
    Column("reason"),
)
