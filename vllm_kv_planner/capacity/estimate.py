"""KV cache memory of a batch of sequences: what the formula says, and what vLLM reserves."""

from __future__ import annotations

import os

from ..config.find import FoundConfig, found_config
from ..engine_args.engine_args import EngineArgs, EngineEnvironment
from ..engine_args.setup import EngineSetup, described, named, resolve_setup
from ..engine_args.value_types import shown
from ..errors import InputError
from ..gpu.catalogue import DEFAULT_GPU, find_gpu
from ..kv_cache.capacity import Worker, plan_kv_cache
from ..kv_cache.group import count_by_identity
from ..kv_cache.specs import FullAttentionSpec, KVCacheSpec
from ..records import dataclass, replace

MODEL_DTYPES = {
    "fp16": "float16",
    "float16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp32": "float32",
    "float32": "float32",
    "float": "float32",
}
"""Names that choose the model's dtype; any other is a ``--kv-cache-dtype`` of vLLM."""


@dataclass(frozen=True, kw_only=True)
class LayerKind:
    """Cache layers that are alike.

    Attributes:
        count: How many there are.
        spec: What each keeps.
        bytes_per_sequence: What all of them keep of one sequence, in bytes, token by token.
    """

    count: int
    spec: KVCacheSpec
    bytes_per_sequence: int

    @property
    def is_plain(self) -> bool:
        """Whether heads times head size times tokens tells its size."""
        return type(self.spec) is FullAttentionSpec

    def __str__(self) -> str:
        return f"{self.count} x {self.spec.summary}"


@dataclass(frozen=True, kw_only=True)
class KVCacheEstimate:
    """The estimate; all sizes in bytes.

    Attributes:
        model: Its id.
        num_layers: Decoder layers.
        kinds: The cache layers, kind by kind.
        batch_size: Sequences.
        seq_len: Tokens of each.
        dtype: What the cache is stored in.
        approx_bytes: All sequences, token by token.
        block_size: Tokens per block.
        blocks_per_sequence: Whole blocks that vLLM hands a sequence, all groups together.
        reserved_bytes_per_sequence: What those blocks take.
        config_source: Where the config was found.
        notes: What to know of that.
    """

    model: str
    num_layers: int
    kinds: tuple[LayerKind, ...]
    batch_size: int
    seq_len: int
    dtype: str
    approx_bytes: int
    block_size: int
    blocks_per_sequence: int
    reserved_bytes_per_sequence: int
    config_source: str
    notes: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether every cache layer is plain attention of the same shape."""
        return len(self.kinds) == 1 and self.kinds[0].is_plain

    @property
    def kv_heads(self) -> int | None:
        """KV heads of every layer, where all are plain."""
        return getattr(self.kinds[0].spec, "num_kv_heads", None) if self.is_plain else None

    @property
    def head_size(self) -> int | None:
        """Width of a key in elements, where all layers are plain."""
        return getattr(self.kinds[0].spec, "head_size", None) if self.is_plain else None

    @property
    def reserved_bytes(self) -> int:
        """Whole blocks of all sequences."""
        return self.reserved_bytes_per_sequence * self.batch_size

    @property
    def rule(self) -> str:
        """How ``approx_bytes`` comes about."""
        if self.is_plain:
            return "(K + V) x layers x KV heads x head size x bytes x tokens x sequences"
        return "sum over layers of what each keeps of a sequence, x sequences"


def estimate_kv_cache(
    model: str | os.PathLike[str] | FoundConfig,
    *,
    seq_len: int,
    batch_size: int = 1,
    dtype: str = "auto",
) -> KVCacheEstimate:
    """KV cache of ``batch_size`` sequences of ``seq_len`` tokens on one GPU.

    Args:
        model: Hub id, directory, config.json, or a config already found.
        seq_len: Tokens of prompt and answer.
        batch_size: Sequences at once.
        dtype: ``auto`` (the model's own), ``fp16``, ``bf16``, ``fp32``, or any
            ``--kv-cache-dtype`` of vLLM.

    Raises:
        PlannerError: The input is wrong or not plannable.
    """
    for name, value in (("--seq-len", seq_len), ("--batch-size", batch_size)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name} {shown(value)}: a number from 1 up")
    if not isinstance(dtype, str):
        raise InputError(f"--dtype {shown(dtype)}: auto, fp16, bf16, fp32 or a --kv-cache-dtype")
    found = found_config(model)
    setup = setup_for(found, seq_len, dtype)
    (layers,) = setup.cache.stages
    kinds = tuple(
        LayerKind(
            count=count,
            spec=spec,
            bytes_per_sequence=count * spec.bytes_kept(seq_len, setup.limits),
        )
        for spec, count in count_by_identity(layers.values())
    )
    # one sequence alone: nothing else is in flight
    in_flight = min(seq_len, setup.limits.max_in_flight_tokens)
    limits = replace(setup.limits.at_length(seq_len), max_in_flight_tokens=in_flight)
    alone = [Worker(layers=layers, available_bytes=0)]
    plan = plan_kv_cache(alone, limits, layout=setup.cache.layout, model_max_len=1)
    blocks = plan.workers[0] if plan.workers else None
    return KVCacheEstimate(
        model=found.id,
        num_layers=setup.model.num_hidden_layers,
        kinds=kinds,
        batch_size=batch_size,
        seq_len=seq_len,
        dtype=stored_dtype(setup),
        approx_bytes=batch_size * sum(kind.bytes_per_sequence for kind in kinds),
        block_size=setup.context.block_size,
        blocks_per_sequence=blocks.blocks_per_request if blocks else 0,
        reserved_bytes_per_sequence=blocks.needed_bytes if blocks else 0,
        config_source=found.source,
        notes=found.notes,
    )


def setup_for(found: FoundConfig, seq_len: int, dtype: str) -> EngineSetup:
    """The engine that would serve such a sequence; its length may exceed the model's."""
    short = dtype.lower()
    args = EngineArgs(
        model=found.id,
        max_model_len=seq_len,
        dtype=MODEL_DTYPES.get(short, "auto"),
        kv_cache_dtype="auto" if short in MODEL_DTYPES else dtype,
    )
    environment = EngineEnvironment(allow_long_max_model_len=True)
    model = described(found, args)
    with named(found):
        return resolve_setup(args, model, find_gpu(DEFAULT_GPU), environment)


def stored_dtype(setup: EngineSetup) -> str:
    """What the cache is stored in, by name."""
    name = setup.resolved.kv_cache_dtype.name
    if setup.model.use_mla:
        from ..planning.parts import stored_kv_cache_dtype

        name = stored_kv_cache_dtype(setup)
    return setup.resolved.dtype.name if name == "auto" else name
