"""The flags of ``fit`` beside those of every command that plans."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..engine_args.quantities import parse_quantity
from ..errors import InputError

QUESTIONS = ("set-ups", "max-model-len", "min-utilization", "min-gpus", "suggest")


def add_fit_flags(group: argparse._ActionsContainer) -> None:
    """What to serve, and on what; then what of it to show."""
    _add_limits(group)
    _add_choices(group)


def _add_limits(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--gpu",
        metavar="NAME,...",
        action="append",
        help="kinds of GPU to try; any (default): the whole catalogue; repeat",
    )
    group.add_argument("--max-gpus", metavar="N", type=int, help="of all machines (all they hold)")
    group.add_argument(
        "--gpu-counts", metavar="N,...", help="only so many, such as 1,2,4,8 (any number)"
    )
    group.add_argument("--max-nodes", metavar="N", type=int, default=1, help="machines (1)")
    group.add_argument(
        "--gpus-per-node", metavar="N", type=int, default=8, help="GPUs in a machine (8)"
    )
    group.add_argument(
        "--context", metavar="N", type=quantity, help="tokens a request may have (max-model-len)"
    )
    group.add_argument(
        "--concurrency", metavar="N", type=quantity, default=1, help="such requests at once (1)"
    )
    group.add_argument(
        "--kv-cache-dtype",
        dest="kv_cache_dtypes",
        metavar="DTYPE,...",
        action="append",
        help="KV cache dtypes allowed, the preferred first (auto)",
    )
    group.add_argument(
        "--variant", metavar="MODEL", action="append", help="another model that would do; repeat"
    )
    group.add_argument(
        "--price",
        metavar="GPU=X",
        action="append",
        help="price of one GPU: the cheapest come first; repeat",
    )


def _add_choices(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--launcher",
        choices=("mp", "ray"),
        default="mp",
        help="what starts several machines: vLLM itself (mp), or Ray",
    )
    group.add_argument(
        "--borderline",
        action="store_true",
        help="offer also what fits only if the prediction is exact",
    )
    group.add_argument(
        "--more-gpus",
        action="store_true",
        help="offer also more GPUs of a kind than are enough, where they hold more requests",
    )
    group.add_argument("--top", metavar="N", type=int, default=10, help="set-ups to show (10)")
    group.add_argument(
        "--question",
        choices=QUESTIONS,
        default="set-ups",
        help="or one question: the longest context, the smallest gpu-memory-utilization or the "
        "fewest GPUs of each kind; suggest: what each single flag would buy",
    )


def quantity(text: str) -> int:
    """``32K`` as vLLM reads it, the refusal in one line."""
    try:
        return parse_quantity(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
