"""``vllm-kv-planner models``: the models that are known without any network."""

from __future__ import annotations

from collections.abc import Sequence

from .output import say
from .planner_flags import command_parser

EPILOG = """\
examples:
  vllm-kv-planner models
  vllm-kv-planner models llama 8b

how sure: confirmed (two sources have the same file), agreed (two sources agree on the sizes),
one (a copy of one source), derived (entered by hand, corrected or rebuilt)

exit codes: 0 listed, 2 no model has all the words, or the input is wrong
"""


def run(arguments: Sequence[str]) -> int:
    """Parse, list; returns the exit code."""
    from ..config import presets
    from ..errors import UnknownNameError

    parser = command_parser(
        "models",
        description="The bundled models, one a line: id, architecture, how sure its config is.",
        usage="[WORD...]",
        epilog=EPILOG,
    )
    parser.add_argument("words", metavar="WORD", nargs="*", help="part of the name; all must match")
    words = [word.lower() for word in parser.parse_args(list(arguments)).words]
    names = [name for name in presets.known_names() if all(word in name.lower() for word in words)]
    if not names:
        from ..config.presets import nearest_models

        near = nearest_models("-".join(words))
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownNameError(f"no bundled model has {' and '.join(words)} in its name{hint}")
    for name in names:
        preset = presets.find_preset(name)
        if preset is not None:
            architecture = preset.config["architectures"][0]
            say(f"{name:<56} {architecture:<40} {preset.certainty}")
    return 0
