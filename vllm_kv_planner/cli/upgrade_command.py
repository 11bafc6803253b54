"""``vllm-kv-planner upgrade``: what another version of vLLM changes for one engine."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .output import rendered, say
from .planner_flags import parsed, request_of, request_of_command


def run(arguments: Sequence[str]) -> int:
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
