"""``--custom-model NAME=layers:32,kv-heads:8,head-dim:128``: hand-made models, any number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError, printable

if TYPE_CHECKING:
    from ..config.find import FoundConfig

EXAMPLE = "NAME=layers:32,kv-heads:8,head-dim:128"


def parse_custom_model(text: str) -> FoundConfig:
    """The config of one ``--custom-model``.

    Raises:
        InputError: Not of that form, or a figure that makes no sense.
    """
    from ..config.custom import custom_config
    from ..records import replace
    from .planner_flags import CUSTOM_FLAGS

    name, equals, facts = text.partition("=")
    if not (name.strip() and equals):
        raise wrong(text, "expected")
    values: dict[str, int] = {}
    for fact in facts.split(","):
        key, _, value = fact.partition(":")
        key = key.strip()
        if key not in CUSTOM_FLAGS or key in values:
            raise wrong(text, f"{key[:40]!r}: each once of {', '.join(CUSTOM_FLAGS)}, such as")
        try:
            values[key] = int(value)
        except ValueError:
            raise wrong(text, f"{key} {value[:40]!r} is not a whole number; expected") from None
    try:
        found = custom_config(
            layers=values.get("layers"),
            kv_heads=values.get("kv-heads"),
            head_dim=values.get("head-dim"),
            heads=values.get("heads"),
        )
    except InputError as error:
        message = str(error).replace("--custom needs --layers, --kv-heads and --head-dim; --", "")
        raise wrong(text, f"{message.removeprefix('--')}; such as") from None
    return replace(found, id=printable(name.strip()))


def wrong(text: str, why: str) -> InputError:
    """The refusal, with the form that is right."""
    return InputError(f"--custom-model {text[:80]!r}: {why} {EXAMPLE}")
