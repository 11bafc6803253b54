"""Which attention backend runs a layer, and what it makes of block sizes and pages.

The tables in ``attention_backends.json`` say what each backend supports; ``select_backend`` goes
through them as vLLM does.

Source: vLLM 0.33 ``platforms/cuda.py`` ``CudaPlatformBase.get_attn_backend_cls`` and
``get_valid_backends``, the same in ``platforms/rocm.py``; ``platforms/cpu.py``
``CpuPlatform.get_attn_backend_cls``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

from ...errors import UnknownNameError, UnsupportedError
from ...files.json_file import read_json
from ...model.layers.base import BackendRequest
from . import kv_dtypes, latent, plain
from .backend import AttentionBackend, hybrid_bytes_per_token, layer_bytes_per_token
from .declaration import Capability, Declaration, EngineFacts, KernelBlock, Situation
from .kv_dtypes import boundary_skip_layers, check_known, check_on_cuda
from .preferences import Preferences, backend_order, preferences_of
from .validate import none_valid, not_valid, reasons_against, refusal, unknown_backend

__all__ = [
    "AttentionBackend",
    "Capability",
    "EngineFacts",
    "Preferences",
    "boundary_skip_layers",
    "choose",
    "declared",
    "fixed_backend",
    "hybrid_bytes_per_token",
    "layer_bytes_per_token",
    "names_in",
    "preferences_of",
    "select_backend",
    "select_cpu_backend",
]


@lru_cache(maxsize=4096)
def select_backend(
    request: BackendRequest,
    *,
    capability: Capability,
    requested: str | None = None,
    block_size: int | None = None,
    dcp: int = 1,
    facts: EngineFacts | None = None,
) -> AttentionBackend:
    """The backend of a layer that leaves the choice to vLLM, on a GPU.

    Args:
        request: What the layer needs.
        capability: Of the GPU, as (major, minor).
        requested: Value of ``--attention-backend``; None or ``auto`` leaves the choice open.
        block_size: ``--block-size`` in tokens, only where the user gave it.
        dcp: ``--decode-context-parallel-size``; ignored where ``facts`` are given.
        facts: What backends look up in the engine's config; by default as if all layers were
            like this one.

    Raises:
        UnknownNameError: Nobody knows the requested name, or the KV cache dtype.
        UnsupportedError: The requested backend, or every backend, turns the layer down.
    """
    facts = facts or EngineFacts.of_request(request, dcp)
    check_known(request.kv_cache_dtype)
    if facts.rocm is None and not facts.xpu:
        check_on_cuda(request.kv_cache_dtype, requested)
    situation = Situation(request, capability, block_size, facts)
    chosen = choose(situation, requested)
    problem = refusal(chosen.name, situation)
    if problem is not None:
        raise UnsupportedError(problem)
    return chosen


def choose(situation: Situation, requested: str | None) -> AttentionBackend:
    """The requested backend, or the first of vLLM's order that has nothing against the layer."""
    if requested is not None and requested.lower() != "auto":
        backend = bind(known(requested, situation.facts), situation)
        reasons = reasons_against(backend, situation)
        if reasons:
            raise UnsupportedError(not_valid(backend.name, situation, reasons))
        return backend
    against: dict[str, list[str]] = {}
    for row in candidates(situation):
        backend = bind(row, situation)
        reasons = reasons_against(backend, situation)
        if not reasons:
            return backend
        against[row.name] = reasons
    raise UnsupportedError(none_valid(situation, against))


def candidates(situation: Situation) -> Iterator[Declaration]:
    """The platform's backends in the order vLLM tries them, but for those it has no rule for."""
    for name in backend_order(situation):
        row = declared(platform_of(situation.facts), name)
        if row is not None and name not in situation.facts.absent:
            yield row


def platform_of(facts: EngineFacts) -> Table:
    """The table of the engine's platform."""
    return "rocm" if facts.rocm is not None else "xpu" if facts.xpu else "cuda"


@lru_cache(maxsize=1024)
def fixed_backend(
    name: str, *, capability: Capability, facts: EngineFacts, request: BackendRequest | None = None
) -> AttentionBackend:
    """The backend that a model's own code insists on; vLLM does not validate it.

    Raises:
        UnknownNameError: No such backend.
    """
    if request is None:
        request = BackendRequest(
            head_size=facts.head_size,
            dtype="auto",
            kv_cache_dtype=facts.kv_cache_dtype,
            num_heads=facts.num_attention_heads,
            num_kv_heads=facts.num_kv_heads,
        )
    return bind(known(name, facts), Situation(request, capability, None, facts))


@lru_cache(maxsize=1024)
def select_cpu_backend(
    request: BackendRequest,
    *,
    requested: str | None = None,
    amx: bool = False,
    facts: EngineFacts | None = None,
) -> AttentionBackend:
    """The backend of a layer on vLLM's CPU engine; its default block is 128 tokens.

    Args:
        request: What the layer needs.
        requested: Value of ``--attention-backend``; only ``CPU_MLA`` changes anything.
        amx: Whether the CPU has AMX tiles (it decides MLA's backend).
        facts: As for ``select_backend``.

    Raises:
        UnsupportedError: Sparse attention, or a KV cache dtype the CPU cannot use.
    """
    if request.use_sparse:
        raise UnsupportedError("vLLM's CPU engine has no sparse attention")
    amx_mla = amx and (requested or "").upper() != "CPU_MLA"
    name = ("AMX_MLA" if amx_mla else "CPU_MLA") if request.use_mla else "CPU_ATTN"
    row = declared("cuda", name)
    assert row is not None
    allowed = ("auto", "bfloat16", "float16") if request.use_mla else row.kv_cache_dtypes
    if request.kv_cache_dtype not in allowed:
        raise UnsupportedError(
            f"--kv-cache-dtype {request.kv_cache_dtype}: vLLM's CPU engine takes "
            f"{', '.join(allowed)}"
        )
    facts = facts or EngineFacts.of_request(request)
    return bind(row, Situation(request, (0, 0), None, facts))


def bind(row: Declaration, situation: Situation) -> AttentionBackend:
    """The backend as this layer meets it."""
    request = situation.request
    return AttentionBackend(
        name=row.name,
        declaration=row,
        capability=situation.capability,
        facts=situation.facts,
        head_size=request.head_size,
        head_size_v=request.head_size_v,
        kv_cache_dtype=request.kv_cache_dtype,
        use_rswa=request.use_rswa,
        attn_type=request.attn_type,
    )


def known(name: str, facts: EngineFacts) -> Declaration:
    """The declaration of that name on the engine's platform, whatever its case.

    Raises:
        UnknownNameError: No such backend, or none of the platform's.
        UnsupportedError: A backend of AMD or Intel GPUs without a rule, or of a later version.
    """
    platform = platform_of(facts)
    tables: tuple[Table, ...] = ("cuda", "model") if platform == "cuda" else (platform,)
    found = (declared(table, each) for each in (name, name.upper()) for table in tables)
    row = next((each for each in found if each is not None), None)
    if row is None and platform == "cuda":
        raise UnknownNameError(unknown_backend(name, names_in("cuda")))
    if row is None:
        maker = "Intel" if facts.xpu else "AMD"
        ends = "" if facts.xpu else "; --planner vllm can answer"
        raise UnsupportedError(
            f"attention backend {name}: no rule for it on {maker} GPUs, which know "
            f"{', '.join(sorted(names_in(platform)))}{ends}"
        )
    if row.name in facts.absent:
        raise UnsupportedError(f"attention backend {row.name}: only a later vLLM has it")
    return row


Table = Literal["cuda", "model", "rocm", "xpu"]
_RULES = {"plain": plain, "latent": latent, "packing": kv_dtypes}


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = read_json(__file__, "attention_backends.json")
    return found


def names_in(table: Table) -> list[str]:
    """Every backend of a table."""
    return list(_tables()[table])


@lru_cache(maxsize=256)
def declared(table: Table, name: str) -> Declaration | None:
    """What a backend of a table says of itself; None where the table does not have it."""
    row = _tables()[table].get(name)
    if row is None:
        return None
    return Declaration(name=name, **{key: _read(key, value) for key, value in _whole(row).items()})


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what it has of the one that it is like."""
    own = {key: value for key, value in row.items() if key not in ("like", "note")}
    if "like" not in row:
        return own
    tables = _tables()
    likes = (tables[table].get(row["like"]) for table in ("templates", "cuda", "model"))
    return {**_whole(next(each for each in likes if each is not None)), **own}


def _read(key: str, value: Any) -> Any:
    """A value of a row as ``Declaration`` has it."""
    if key == "runs_on":
        return tuple(map(_capabilities, value.split()))
    if key == "blocks" and isinstance(value, list):
        return tuple(
            KernelBlock(int(str(size).lstrip("x")), multiples=isinstance(size, str))
            for size in value
        )
    if isinstance(value, str):
        return _rule(value) if "." in value else tuple(value.split())
    return tuple(value) if isinstance(value, list) else value


def _capabilities(word: str) -> tuple[Capability, Capability]:
    """``9.x``, ``9.0`` and ``8.0-12.1`` as the first and the last compute capability."""
    low, _, high = word.partition("-")
    first, last = low.replace("x", "0"), (high or low).replace("x", "9")
    (major, minor), (last_major, last_minor) = (map(int, e.split(".")) for e in (first, last))
    return (major, minor), (last_major, last_minor)


def _rule(text: str) -> Callable[..., Any]:
    """``plain.sink`` is that function, ``packing.rows_apart 64`` what it makes of the number."""
    name, _, number = text.partition(" ")
    module, _, function = name.partition(".")
    found: Callable[..., Any] = getattr(_RULES[module], function)
    made: Callable[..., Any] = found(int(number)) if number else found
    return made
