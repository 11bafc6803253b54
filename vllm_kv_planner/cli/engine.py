"""``plan``, ``paging``, ``upgrade`` and ``launch``: one engine planned, compared, started."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from ..errors import InputError
from .output import rendered, say, tell
from .planner_flags import (
    command_parser,
    parsed,
    request_of,
    request_of_command,
    split_at_dashes,
)

if TYPE_CHECKING:
    import argparse

    from ..capacity.launch import Launch


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


def run_launch(arguments: Sequence[str]) -> int:
    """Parse, plan, print, start; returns only where nothing is started."""
    from ..capacity.launch import environment_of, launch_of, read_command

    ours, pasted = split_at_dashes(list(arguments))
    if not pasted and not {"-h", "--help"} & set(ours):
        raise InputError("the command stands behind --: launch [flags] -- vllm serve MODEL ...")
    given = command_parser("launch").parse_args(ours)
    command = read_command(pasted)
    if not given.dry_run:
        command.program()  # nobody waits for a plan of what cannot be started
    with environment_of(command):
        request = request_of_command(given, pasted)
    launch = launch_of(command, request)
    said = Words(sys.stdout if given.dry_run else sys.stderr)
    said.plan(launch)
    if not may_start(launch, given, said):
        return 1
    if not given.dry_run:
        launch.start()
    return 0


class Words:
    """What launch itself has to say, where somebody can hear it."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def line(self, text: str) -> None:
        """Say this; nothing where the stream is closed, for then print would take stdout."""
        if self._stream is not None:
            say(text, self._stream)

    def plan(self, launch: Launch) -> None:
        """The plan, and what would be started."""
        from ..planning.document import plan_document
        from ..report.render import to_text, wants_colour

        colour = self._stream is not None and wants_colour(self._stream)
        self.line(to_text(plan_document(launch.plan), colour=colour))
        self.line(f"\n$ {launch.command}")


def may_start(launch: Launch, given: argparse.Namespace, said: Words) -> bool:
    """Whether to start it; says why not."""
    from ..capacity.launch import BORDERLINE, FITS

    if launch.verdict == FITS:
        return True
    if launch.verdict == BORDERLINE and (given.yes or (not given.dry_run and is_asked())):
        return True
    for line in refusal(launch):
        said.line(f"vllm-kv-planner: {line}")
    return False


def refusal(launch: Launch) -> list[str]:
    """Why it is not started, and what would change that."""
    from ..capacity.launch import BORDERLINE
    from ..planning.document import change_text

    is_borderline = launch.verdict == BORDERLINE
    lines = [f"not started: {launch.verdict}{'; --yes starts it' if is_borderline else ''}"]
    lines += [f"the smallest change that fits: {change_text(each)}" for each in launch.plan.changes]
    if not launch.plan.changes and not is_borderline:
        lines.append("no single change of a flag makes it fit; vllm-kv-planner fit searches more")
    return lines


def is_asked() -> bool:
    """Ask a person, where there is one."""
    if not all(each is not None and each.isatty() for each in (sys.stdin, sys.stderr)):
        return False
    tell("It may not fit. Start it all the same? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
