"""``vllm-kv-planner fit``: which set-ups serve what you need, and what one more flag would buy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine_args.flags import ignored_flags
from ..errors import InputError
from .output import rendered, say
from .planner_flags import parsed, request_of, request_of_command

if TYPE_CHECKING:
    import argparse

    from ..capacity.fit.constraints import Wanted
    from ..gpu.gpu import GPU
    from ..planning.request import PlanRequest


def run_fit(arguments: Sequence[str]) -> int:
    """Parse, search, print; returns the exit code."""
    given, pasted = parsed("fit", arguments)
    request, named, gpus = asked(given, pasted)
    if given.question == "set-ups":
        return _set_ups(given, request, _wanted(given, request, named, gpus))
    if given.question == "suggest":
        return _suggest(given, request, gpus)
    return _question(given, request, _wanted(given, request, named, gpus), gpus)


def asked(
    given: argparse.Namespace, pasted: list[str]
) -> tuple[PlanRequest, tuple[str, ...], list[str | GPU]]:
    """The engine, the flags that the user fixed, and the devices named.

    Raises:
        PlannerError: The input is wrong; one line says what and where.
    """
    names = several(given.gpu)
    if given.gpu_memory is not None and len(names) > 1:
        raise InputError("--gpu-memory is one device's: name one --gpu beside it")
    given.gpu = names[0] if given.gpu_memory is not None and names else None
    if given.context is not None and not pasted:
        if getattr(given, "max_model_len", given.context) != given.context:
            raise InputError("--context and --max-model-len are the same: give one of them")
        given.max_model_len = given.context
    request, named = _pasted(given, pasted) if pasted else _described(given)
    if given.gpu_memory is not None:
        assert request.gpu is not None
        return request, named, [request.gpu]
    return request, named, [_device(name) for name in names]


def _pasted(given: argparse.Namespace, pasted: list[str]) -> tuple[PlanRequest, tuple[str, ...]]:
    """The engine of a pasted command; what differs from vLLM's defaults is fixed anyhow."""
    from ..engine_args.serve_command import parse_serve_command

    request = request_of_command(given, pasted)
    if given.context is not None:
        request = request.with_args(max_model_len=given.context)
    return _telling(request, parse_serve_command(pasted).ignored), ()


def _described(given: argparse.Namespace) -> tuple[PlanRequest, tuple[str, ...]]:
    """The engine of our own command line, and every flag given."""
    if len(given.model_tags) > 1:
        raise InputError(f"{given.model_tags[1]!r}: one MODEL; others that would do: --variant")
    (model,) = given.model_tags or [getattr(given, "model", None)]
    return _telling(request_of(given, model), ignored_flags(given)), tuple(vars(given))


def _telling(request: PlanRequest, left_out: Sequence[str]) -> PlanRequest:
    """The request with a note of the flags that its commands will lack."""
    from ..records import replace

    if not left_out:
        return request
    note = f"change no memory, and are left out of the commands: {', '.join(left_out)}"
    return replace(request, notes=(*request.notes, note))


def _device(name: str) -> str | GPU:
    if name != "auto":
        return name
    from ..gpu.detect import present_gpu

    return present_gpu()


def _wanted(
    given: argparse.Namespace, request: PlanRequest, named: Sequence[str], gpus: list[str | GPU]
) -> Wanted:
    """What the search is asked."""
    from ..capacity.fit.constraints import ANY_GPU, Wanted

    return Wanted(
        named=[name for name in named if name in vars(request.args)],
        gpu=gpus or ANY_GPU,
        max_gpus=given.max_gpus,
        gpu_counts=counts_given(given.gpu_counts),
        max_nodes=given.max_nodes,
        gpus_per_node=given.gpus_per_node,
        concurrency=given.concurrency,
        kv_cache_dtype=several(given.kv_cache_dtypes) or request.args.kv_cache_dtype,
        prices=prices_given(given.price),
        launcher=given.launcher,
        borderline=given.borderline,
        more_gpus=given.more_gpus,
        top=given.top,
    )


def _set_ups(given: argparse.Namespace, request: PlanRequest, wanted: Wanted) -> int:
    from ..capacity.fit.fit import fit_request

    result = fit_request(request, wanted, several(given.variant))
    say(rendered(result, given.format))
    return 0 if result.offers else 1


def _question(
    given: argparse.Namespace, request: PlanRequest, wanted: Wanted, gpus: list[str | GPU]
) -> int:
    from ..capacity.fit.constraints import gpus_of
    from ..capacity.fit.fit import fit_request
    from ..capacity.fit.questions import fewest_of, solved
    from ..gpu.catalogue import DEFAULT_GPU
    from ..records import replace

    if given.question == "min-gpus":
        variants = several(given.variant)
        result = fewest_of(
            gpus_of(wanted.gpu, wanted.prices or {}),
            lambda gpu: fit_request(request, replace(wanted, gpu=gpu, top=1), variants),
        )
    else:
        result = solved(
            given.question,
            _with_cache(request, given),
            gpu=gpus or DEFAULT_GPU,
            concurrency=given.concurrency,
        )
    say(rendered(result, given.format))
    return 0 if result.answered else 1


def _suggest(given: argparse.Namespace, request: PlanRequest, gpus: list[str | GPU]) -> int:
    from ..capacity.fit.questions import suggested_for

    if len(gpus) > 1:
        raise InputError("--question suggest is about one engine: name one --gpu")
    if gpus:
        request = request.on(gpus[0])
    result = suggested_for(_with_cache(request, given), concurrency=given.concurrency)
    say(rendered(result, given.format))
    return 0 if result.fits else 1


def _with_cache(request: PlanRequest, given: argparse.Namespace) -> PlanRequest:
    """The engine with the one KV cache dtype that a question about it allows."""
    dtypes = several(given.kv_cache_dtypes)
    if len(dtypes) > 1:
        raise InputError(f"--question {given.question}: name one --kv-cache-dtype")
    return request.with_args(kv_cache_dtype=dtypes[0]) if dtypes else request


def several(given: Sequence[str] | None) -> list[str]:
    """``["L4,H100", "T4"]`` as three words."""
    return [word.strip() for text in given or () for word in text.split(",") if word.strip()]


def counts_given(given: str | None) -> list[int] | None:
    """``"1,2,4,8"`` as numbers.

    Raises:
        InputError: Not of that form.
    """
    if given is None:
        return None
    try:
        return [int(word) for word in several([given])]
    except ValueError:
        raise InputError(f"--gpu-counts {given[:60]!r}: expected numbers, as in 1,2,4,8") from None


def prices_given(given: Sequence[str] | None) -> dict[str, float]:
    """``["H100=2.5"]`` as a price by name.

    Raises:
        InputError: Not of that form.
    """
    found: dict[str, float] = {}
    for text in several(given):
        name, equals, price = text.rpartition("=")
        try:
            found[name] = float(price)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise InputError(f"--price {text[:60]!r}: expected GPU=PRICE, such as H100=2.5")
    return found
