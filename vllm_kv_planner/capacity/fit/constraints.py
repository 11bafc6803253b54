"""What a set-up must do, and what it may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...engine_args.engine_args import EngineArgs
from ...engine_args.value_types import shown
from ...errors import InputError
from ...gpu.catalogue import find_gpu, offered_gpus
from ...gpu.gpu import GPU
from ...records import dataclass, field

ANY_GPU = "any"
"""In place of a GPU's name: every one of the catalogue."""
LAUNCHERS = ("mp", "ray")
"""Of set-ups over several machines: vLLM's own, or a Ray cluster."""
MOST_GPUS = 1024
"""More are refused: a search tries every count up to it."""
MOST_REQUESTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """``Wanted``, resolved for an engine and checked; names of both mean the same.

    Attributes:
        args: vLLM's flags of every set-up, as far as ``fixed`` names them.
        fixed: The flags that the search leaves alone.
        gpus: The devices to try.
        max_gpus: GPUs of all machines together, at most.
        counts: The numbers of GPUs to try, the smallest first.
        prices: Price of one GPU by short name; empty: none known.
    """

    args: EngineArgs
    fixed: frozenset[str]
    gpus: tuple[GPU, ...]
    max_gpus: int
    counts: tuple[int, ...]
    gpus_per_node: int
    concurrency: int
    kv_cache_dtypes: tuple[str, ...]
    prices: Mapping[str, float] = field(hash=False)
    borderline: bool
    more_gpus: bool
    top: int


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a user asks of a search, beside the engine's own flags: the arguments of ``fit()``.

    ``named`` are the flags that the user gave, even if at vLLM's default: they stay as they are.
    """

    named: Sequence[str] = ()
    gpu: str | GPU | Sequence[str | GPU] = ANY_GPU
    max_gpus: int | None = None
    gpu_counts: Sequence[int] | None = None
    max_nodes: int = 1
    gpus_per_node: int = 8
    concurrency: int = 1
    kv_cache_dtype: str | Sequence[str] = "auto"
    prices: Mapping[str, float] | None = field(default=None, hash=False)
    launcher: str = "mp"
    borderline: bool = False
    more_gpus: bool = False
    top: int = 10

    def constraints(self, args: EngineArgs) -> Constraints:
        """The same, resolved for an engine; refuses values and GPUs that cannot be."""
        if self.launcher not in LAUNCHERS:
            raise InputError(f"--launcher {shown(self.launcher)}: one of {', '.join(LAUNCHERS)}")
        prices = prices_of(self.prices)
        gpus = gpus_of(self.gpu, prices)
        nodes = whole("max_nodes", self.max_nodes, most=MOST_GPUS)
        per_node = whole("gpus_per_node", self.gpus_per_node, most=MOST_GPUS)
        if gpus and all(gpu.machine_gpus for gpu in gpus):  # ``8xH100``, ``p5.48xlarge``
            per_node = max(gpu.machine_gpus or 0 for gpu in gpus)
        most = room = nodes * per_node
        if self.max_gpus is not None:
            most = min(room, whole("max_gpus", self.max_gpus, most=MOST_GPUS))
        counts = counts_of(self.gpu_counts) or range(1, most + 1)
        dtypes = names_of("--kv-cache-dtype", self.kv_cache_dtype)
        whole("max_gpus", most, most=MOST_GPUS)
        return Constraints(
            args=args,
            fixed=fixed_of(args, self.named),
            gpus=gpus,
            max_gpus=most,
            counts=tuple(sorted({number for number in counts if number <= most})),
            gpus_per_node=whole("gpus_per_node", per_node, most=MOST_GPUS),
            concurrency=whole("concurrency", self.concurrency, most=MOST_REQUESTS),
            kv_cache_dtypes=dtypes,
            prices=prices,
            borderline=self.borderline,
            more_gpus=self.more_gpus,
            top=whole("top", self.top, most=10_000),
        )


def whole(name: str, value: object, *, most: int) -> int:
    """``value``, if it is a whole number from 1 to ``most``; an InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        flag = "--" + name.replace("_", "-")
        raise InputError(f"{flag}: {shown(value)} is not a whole number from 1 to {most:,}")
    return value


def gpus_of(names: object, prices: Mapping[str, float]) -> tuple[GPU, ...]:
    """The devices that a caller names: one, several, or ``any`` (that has a price, if any has)."""
    if isinstance(names, (str, GPU)):
        names = [names]
    if not isinstance(names, Sequence) or not names:
        valid = f"the name of a GPU, a list of names, or {ANY_GPU!r}"
        raise InputError(f"gpu: {shown(names)} is not {valid}")
    found: dict[str, GPU] = {}
    for name in names:
        for gpu in _gpus(name, prices):
            found.setdefault(gpu.short_name, gpu)
    if prices:
        without = [name for name in found if name not in prices]
        if without:
            raise InputError(f"--price: none for {', '.join(without)}; give one for every GPU")
    return tuple(found.values())


def _gpus(name: object, prices: Mapping[str, float]) -> tuple[GPU, ...]:
    if isinstance(name, GPU):
        return (name,)
    if not isinstance(name, str):
        raise InputError(f"gpu: {shown(name)} is neither the name of a GPU nor a GPU")
    if name.strip().lower() != ANY_GPU:
        return (find_gpu(name),)
    return tuple(gpu for gpu in offered_gpus() if not prices or gpu.short_name in prices)


def counts_of(given: object) -> tuple[int, ...]:
    """Numbers of GPUs."""
    if given is None:
        return ()
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise InputError(f"--gpu-counts: {shown(given)} is not a list of whole numbers")
    return tuple(whole("gpu_counts", each, most=MOST_GPUS) for each in given)


def prices_of(given: object) -> dict[str, float]:
    """Prices by the GPU's short name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(f"prices: {shown(given)} is not a dictionary of prices by GPU")
    found: dict[str, float] = {}
    for name, price in given.items():
        number = isinstance(price, (int, float)) and not isinstance(price, bool)
        if not number or not 0 < price < 1e12:
            raise InputError(f"--price {name}: {shown(price)} is not a number above 0")
        found[find_gpu(str(name)).short_name] = float(price)
    return found


def names_of(name: str, given: object) -> tuple[str, ...]:
    """One text or several, as a tuple without repeats."""
    if isinstance(given, str):
        given = (given,)
    if not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise InputError(f"{name}: {shown(given)} is not a text or a list of texts")
    if not given:
        raise InputError(f"{name}: none given")
    return tuple(dict.fromkeys(given))


def fixed_of(args: EngineArgs, named: Sequence[str] | Mapping[str, Any] = ()) -> frozenset[str]:
    """The flags to leave alone: those named, and those that differ from vLLM's default."""
    plain = EngineArgs(model=args.model)
    differ = (name for name, value in vars(args).items() if getattr(plain, name) != value)
    return frozenset((*named, *differ))
