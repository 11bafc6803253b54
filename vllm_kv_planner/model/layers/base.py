"""A cache layer as a model's config describes it, before an engine is chosen."""

from __future__ import annotations

from ...errors import InputError
from ...kv_cache.specs import AttentionSpec, KVCacheSpec
from ...records import dataclass
from ..backend_request import BackendRequest
from ..context import Backend, CacheContext


@dataclass(frozen=True, kw_only=True)
class CacheLayer:
    """One layer that vLLM registers for a cache.

    Attributes:
        index: Decoder layer it belongs to; pipeline stages are cut along these.
    """

    index: int

    def backend_request(self, context: CacheContext) -> BackendRequest | None:
        """What to ask the backend selector; None for states, which choose none."""
        return None

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Name of the backend the layer's class insists on, where it does."""
        return None

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec | None:
        """Its cache on one rank; None where it keeps nothing of its own."""
        raise TypeError(f"{type(self).__name__} says nothing of its cache")


def as_packed(spec: AttentionSpec, backend: Backend | None) -> AttentionSpec:
    """The spec as the layer's backend packs it."""
    return spec if backend is None else backend.customize(spec)


def per_rank(total: int, context: CacheContext, what: str) -> int:
    """A tensor-parallel rank's share of ``total``.

    Raises:
        InputError: The ranks cannot share evenly, which vLLM refuses.
    """
    ranks = context.tensor_parallel_size
    if total % ranks:
        raise InputError(f"--tensor-parallel-size {ranks}: must divide the model's {total} {what}")
    return total // ranks
