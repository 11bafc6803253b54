"""The command line: each subcommand parses, calls the library and prints.

Exit codes: 0 it fits, 1 it does not fit (the plan is printed all the same), 2 the input is wrong
(one line on stderr, nothing on stdout).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .output import printing, say, tell

COMMANDS = {
    "plan": ("engine", "KV cache memory, blocks and concurrency of one engine"),
    "fit": ("fit", "set-ups that serve what you need, and what one more flag would buy"),
    "compare": ("compare", "models side by side: bytes per token, per request, concurrency"),
    "paging": ("engine", "what paging saves against reserving max_model_len for every request"),
    "workload": ("workload", "how many of your requests really run together"),
    "sweep": ("sweep", "many set-ups to CSV, JSONL or Parquet, resumable"),
    "upgrade": ("engine", "what another version of vLLM changes for one engine, and why"),
    "launch": ("engine", "plan a vllm serve command, then start it where it fits"),
    "explain": ("logs", "a start-up log of vLLM: predicted and actual side by side"),
    "calibrate": ("logs", "learn from start-up logs what later plans on the device use"),
    "gpus": ("catalogue", "GPUs known by name, with how sure each one's memory is"),
    "models": ("catalogue", "the models that are known without any network"),
}
"""By name the module that has its ``run_NAME``, and what the usage says of it."""

USAGE = """\
usage: vllm-kv-planner [--version] [--help] COMMAND ...

How much KV cache a vLLM engine will have, before it is launched and without a GPU.

commands:
{commands}

vllm-kv-planner COMMAND --help tells more.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return printing(lambda: run(arguments), "vllm-kv-planner: ")


def run(arguments: list[str]) -> int:
    """Hand the rest of the line to the subcommand."""
    from ..errors import PlannerError
    from ..masking import hiding

    command = arguments[0] if arguments else "--help"
    if command in ("--version", "-V"):
        from ..version import __version__

        say(f"vllm-kv-planner {__version__}")
        return 0
    if command in ("--help", "-h"):
        listed = "\n".join(f"  {name:<12}{text}" for name, (_, text) in COMMANDS.items())
        say(USAGE.format(commands=listed).rstrip("\n"))
        return 0 if arguments else 2
    try:
        if command not in COMMANDS:
            if not is_for_plan(arguments):
                return complain(f"unknown command {command[:80]!r}: one of {', '.join(COMMANDS)}")
            arguments = ["plan", *arguments]
            command = "plan"
        from importlib import import_module

        with hiding(arguments):
            module = import_module(f".{COMMANDS[command][0]}", __name__)
            code = getattr(module, f"run_{command}")(arguments[1:])
        assert isinstance(code, int)
        return code
    except PlannerError as error:
        return complain(str(error))


def is_for_plan(arguments: list[str]) -> bool:
    """Whether a line without a command names what to plan: a model, or a pasted command."""
    from ..config.presets import find_preset
    from ..errors import nearest
    from .planner_flags import is_pasted

    word = arguments[0]
    if is_pasted(arguments) or "/" in word or word.startswith("--"):
        return True
    if nearest(word, COMMANDS, 1, 0.7):
        return False
    return find_preset(word) is not None


def complain(message: str) -> int:
    """One line on stderr; exit code 2."""
    from ..errors import one_line

    tell(f"vllm-kv-planner: error: {one_line(message)}")
    return 2
