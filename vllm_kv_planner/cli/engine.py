"""``plan``, ``paging`` and ``upgrade``: questions about one engine."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .output import rendered, say
from .planner_flags import parsed, request_of, request_of_command


def run_plan(arguments: Sequence[str]) -> int:
    """Parse, plan, print; returns the exit code."""
    from ..api import plan
    from ..planning.document import Plans

    given, pasted = parsed("plan", arguments)
    if pasted:
        requests = [request_of_command(given, pasted)]
    else:
        named = given.model_tags or [getattr(given, "model", None)]
        requests = [request_of(given, model) for model in named]
    plans = tuple(map(plan, requests))
    say(rendered(Plans(plans), given.format))
    return 0 if all(plan.fits for plan in plans) else 1


def run_paging(arguments: Sequence[str]) -> int:
    """Parse, count, print; returns the exit code."""
    from ..capacity.paging import CLASSIC, check_one_length, compare_paging, parse_scenario

    given, pasted = parsed("paging", arguments)
    scenarios = [parse_scenario(text) for text in given.scenario or ()] or CLASSIC
    if pasted:
        request = request_of_command(given, pasted)
        check_one_length(request.args.max_model_len, scenarios)
    else:
        check_one_length(getattr(given, "max_model_len", None), scenarios)
        request = request_of(given, the_model(given.model_tags) or getattr(given, "model", None))
    comparison = compare_paging(request, scenarios)
    say(rendered(comparison, given.format))
    return 0


def the_model(named: list[str]) -> str | None:
    """The one model named; None where none is.

    Raises:
        InputError: Several are.
    """
    if len(named) > 1:
        raise InputError(f"unexpected argument {named[1]!r}: paging takes one MODEL")
    return named[0] if named else None


def run_upgrade(arguments: Sequence[str]) -> int:
    """Parse, plan both versions, print; returns the exit code."""
    from ..capacity.upgrade import upgrade

    given, pasted = parsed("upgrade", arguments)
    if given.vllm_version is not None:
        raise InputError("upgrade: --from and --to say the versions; leave --vllm-version out")
    given.vllm_version = given.from_version
    if pasted:
        request = request_of_command(given, pasted)
    else:
        named = given.model_tags or [getattr(given, "model", None)]
        if len(named) > 1:
            raise InputError("upgrade: one model at a time")
        request = request_of(given, named[0])
    if request.vllm_version is None:
        raise InputError("upgrade: --from V, the version that serves now, such as 0.28")
    answer = upgrade(
        request,
        before=request.vllm_version,
        after=given.to_version,
        flags=pasted or arguments_of_vllm(arguments),
    )
    say(rendered(answer, given.format))
    return 0 if answer.fits else 1


def arguments_of_vllm(arguments: Sequence[str]) -> list[str]:
    """The words without this command's own flags, which vLLM has never known."""
    return [word for word in arguments if word.partition("=")[0] not in ("--from", "--to")]
