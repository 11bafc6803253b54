"""``vllm-kv-planner models``: the models that are known without any network."""

from __future__ import annotations

from collections.abc import Sequence

from .output import say
from .planner_flags import command_parser


def run(arguments: Sequence[str]) -> int:
    """Parse, list; returns the exit code."""
    from ..config import presets
    from ..errors import UnknownNameError

    given = command_parser("models").parse_args(list(arguments))
    words = [word.lower() for word in given.words]
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
