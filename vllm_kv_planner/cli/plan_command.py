"""``vllm-kv-planner plan``: one engine, planned and printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine_args.arguments import prepare_arguments
from ..engine_args.environment import read_environment
from ..engine_args.flags import (
    FlagParser,
    add_engine_flags,
    engine_args_from,
    unsure_notes,
)
from ..errors import InputError
from .log_flags import add_calibration_flags, calibration_of

if TYPE_CHECKING:
    import argparse

    from ..engine_args.engine_args import EngineArgs
    from ..engine_args.environment import EngineEnvironment
    from ..machine import Machine
    from ..model.find import FoundConfig
    from ..plan_types import Plan

EPILOG = """\
examples:
  vllm-kv-planner plan gpt2 --kv-cache-memory-bytes 1G
  vllm-kv-planner plan Qwen/Qwen3-32B --gpu H200 -tp 2 --kv-cache-memory-bytes 100G --format json
  vllm-kv-planner plan --custom --layers 80 --kv-heads 8 --head-dim 128 --kv-cache-memory-bytes 40G
  vllm-kv-planner plan --gpu L4 -- vllm serve google/gemma-2-9b-it --kv-cache-memory-bytes 4G

exit codes: 0 it fits, 1 it does not fit, 2 the input is wrong
"""

FORMATS = ("text", "json", "markdown", "csv")


def run(arguments: Sequence[str]) -> int:
    """Parse, plan, print; returns the exit code."""
    ours, pasted = split_at_dashes(list(arguments))
    parser = make_parser()
    given = parser.parse_args(prepare_arguments(ours))
    if pasted:
        plans = [planned_command(given, pasted)]
    else:
        named = given.model_tags or [getattr(given, "model", None)]
        plans = [planned(given, model) for model in named]
    print(rendered(plans, given.format))
    return 0 if all(plan.fits for plan in plans) else 1


def split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before ``--``, and the pasted command behind it."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def make_parser() -> FlagParser:
    """Our own flags first, then vLLM's."""
    import argparse

    parser = FlagParser(
        prog="vllm-kv-planner plan",
        description="KV cache memory, blocks and concurrency of one vLLM engine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="vllm-kv-planner plan MODEL... [--gpu NAME] [vLLM engine flags]\n"
        "       vllm-kv-planner plan [--gpu NAME] -- vllm serve MODEL [flags]",
        allow_abbrev=False,
    )
    parser.add_argument(
        "model_tags", metavar="MODEL", nargs="*", help="Hub id, directory or file; or several"
    )
    own = parser.add_argument_group("planner")
    own.add_argument(
        "--gpu", metavar="NAME", help="GPU of every rank: H100 (default), L4, ...; auto asks NVML"
    )
    own.add_argument("--gpu-memory", metavar="SIZE", help="its memory, such as 80GiB")
    own.add_argument("--free-memory", metavar="SIZE", help="free on a shared GPU at the start")
    own.add_argument("--other-processes", metavar="SIZE", help="or: what others hold of it")
    add_calibration_flags(own)
    own.add_argument(
        "--planner",
        choices=("auto", "standalone", "vllm"),
        default="auto",
        help="rules restated (standalone), or vLLM's own code",
    )
    own.add_argument("--vllm-version", metavar="V", help="vLLM to plan for (0.33)")
    own.add_argument("--format", choices=FORMATS, default="text", help="how to print the plan")
    custom = parser.add_argument_group("a hand-made model in place of MODEL")
    custom.add_argument("--custom", action="store_true", help="describe the model by hand")
    for name, help_text in CUSTOM_FLAGS.items():
        custom.add_argument(f"--{name}", type=int, metavar="N", help=help_text)
    add_engine_flags(parser)
    return parser


CUSTOM_LENGTH = 8192
"""Tokens, where ``--custom`` comes without ``--max-model-len``."""

CUSTOM_FLAGS = {
    "layers": "decoder layers",
    "kv-heads": "KV heads of a layer",
    "head-dim": "width of a head",
    "heads": "query heads (default: as many as KV heads)",
}


def planned(given: argparse.Namespace, model: str | None) -> Plan:
    """The plan of our own flags for one model."""
    import os

    found = custom_model(given, model)
    if found is None:
        if model is None:
            raise InputError("no model named: a Hub id, a directory or a config.json, or --custom")
        from ..model.find import find_config

        found = find_config(model, revision=getattr(given, "revision", None))
    also: dict[str, object] = {"model": found.id}
    notes = unsure_notes(given)
    if given.custom and getattr(given, "max_model_len", None) is None:
        also["max_model_len"] = CUSTOM_LENGTH
        notes.append(f"a hand-made model has no length of its own: {CUSTOM_LENGTH:,} tokens taken")
    args = engine_args_from(given, **also)
    return planned_with(given, args, found, read_environment(os.environ), notes)


def planned_command(given: argparse.Namespace, pasted: list[str]) -> Plan:
    """The plan of a pasted ``vllm serve`` line."""
    from ..engine_args.serve_command import parse_serve_command
    from ..model.find import find_config

    if given.model_tags:
        raise InputError(
            f"{given.model_tags[0]!r} before --: the model stands in the pasted command"
        )
    command = parse_serve_command(pasted)
    args = command.engine_args
    found = find_config(args.model, revision=args.revision)
    return planned_with(given, args, found, command.environment, list(command.notes))


def planned_with(
    given: argparse.Namespace,
    args: EngineArgs,
    found: FoundConfig,
    environment: EngineEnvironment,
    notes: list[str],
) -> Plan:
    """Hand everything to the library."""
    from ..engine_args.choose_gpu import choose_gpu
    from ..planner import plan_engine_args

    if given.gpu is None and given.gpu_memory is not None:
        notes = [*notes, "no GPU named: one like an H100 with this memory; --gpu NAME for another"]
    # the CPU is no GPU of the catalogue: vLLM's CPU build plans for it, and nobody else
    on_cpu = given.gpu == "cpu" and given.planner == "vllm"
    return plan_engine_args(
        args,
        found=found,
        gpu=given.gpu if on_cpu else choose_gpu(given.gpu, given.gpu_memory),
        planner=given.planner,
        vllm_version=given.vllm_version,
        environment=environment,
        machine=machine_of(given),
        notes=tuple(notes),
    )


def machine_of(given: argparse.Namespace) -> Machine:
    """Free memory as said, and the lessons of earlier starts."""
    from ..machine import Machine

    free, others = given.free_memory, given.other_processes
    if free is not None and others is not None:
        raise InputError("--free-memory and --other-processes: one of them says it all")
    return Machine(
        free_memory_bytes=None if free is None else sized("--free-memory", free),
        other_processes_bytes=0 if others is None else sized("--other-processes", others),
        calibration=calibration_of(given),
    )


def sized(flag: str, text: str) -> int:
    """A size, its refusal with the flag's name."""
    from ..engine_args.quantities import parse_memory_size

    try:
        return parse_memory_size(text)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from None


def custom_model(given: argparse.Namespace, model: str | None) -> FoundConfig | None:
    """The hand-made model's config; None where none is described."""
    values = {name: getattr(given, name.replace("-", "_")) for name in CUSTOM_FLAGS}
    if not given.custom:
        stray = [name for name, value in values.items() if value is not None]
        if stray:
            raise InputError(f"--{stray[0]} describes a hand-made model: add --custom")
        return None
    if model is not None:
        raise InputError(f"--custom describes the model by hand; MODEL {model!r} is one too many")
    from ..model.custom import custom_config

    return custom_config(
        layers=values["layers"],
        kv_heads=values["kv-heads"],
        head_dim=values["head-dim"],
        heads=values["heads"],
    )


def rendered(plans: list[Plan], form: str) -> str:
    """The plans in the format asked for; several are a JSON array, or CSV rows under one header."""
    if form == "json":
        from ..report.json_report import to_json

        return to_json(*plans)
    if form == "csv":
        from ..report.csv_report import to_csv

        return to_csv(*plans)
    if form == "markdown":
        from ..report.markdown import to_markdown

        return "\n\n".join(map(to_markdown, plans))
    from ..report.terminal import wants_colour
    from ..report.text import to_text

    colour = wants_colour(sys.stdout)
    return "\n\n".join(to_text(plan, colour=colour) for plan in plans)
