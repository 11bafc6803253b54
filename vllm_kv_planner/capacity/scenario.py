"""``100x512@8K``: so many requests of so many tokens, in an engine of such a max_model_len."""

from __future__ import annotations

import re

from ..errors import InputError
from ..records import dataclass

MOST_REQUESTS = 10**9
_FORM = re.compile(r"([^x@]+)x([^x@]+)(?:@([^x@]+))?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Requests that are alike.

    Attributes:
        requests: How many.
        tokens: Prompt and answer of each, as far as it is computed.
        max_model_len: What the engine is started with, in tokens; None: as its flags say.
    """

    requests: int
    tokens: int
    max_model_len: int | None = None

    def __post_init__(self) -> None:
        from ..config.custom import LONGEST
        from ..engine_args.value_types import shown

        most = {"requests": MOST_REQUESTS, "tokens": LONGEST, "max_model_len": LONGEST}
        for name, limit in most.items():
            value = getattr(self, name)
            if name == "max_model_len" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= limit:
                raise InputError(f"scenario: {name} {shown(value)}: a number from 1 to {limit:,}")
        if self.max_model_len is not None and self.tokens > self.max_model_len:
            raise InputError(
                f"scenario: requests of {self.tokens:,} tokens do not exist with max_model_len "
                f"{self.max_model_len:,}"
            )


CLASSIC = (
    Scenario(requests=100, tokens=512, max_model_len=8192),
    Scenario(requests=50, tokens=2048, max_model_len=8192),
    Scenario(requests=20, tokens=4096, max_model_len=32768),
    Scenario(requests=10, tokens=8192, max_model_len=131072),
)
"""Short requests in long contexts: what paging is usually explained with."""


def parse_scenario(text: str) -> Scenario:
    """The scenario that a person wrote; ``8K`` is 8,192 as on vLLM's command line.

    Raises:
        InputError: Not of that form.
    """
    from ..engine_args.quantities import parse_quantity

    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"scenario {text[:40]!r}: REQUESTSxTOKENS@MAX_MODEL_LEN, such as 100x512@8K"
        )
    try:
        requests, tokens, length = (
            None if part is None else parse_quantity(part) for part in match.groups()
        )
    except InputError as error:
        raise InputError(f"scenario {text[:40]!r}: {error}") from None
    assert requests is not None and tokens is not None
    return Scenario(requests=requests, tokens=tokens, max_model_len=length)


def scenario_of(value: object) -> Scenario:
    """What the Python API takes for a scenario.

    Raises:
        InputError: It is none.
    """
    from ..engine_args.value_types import shown

    if isinstance(value, Scenario):
        return value
    if isinstance(value, str):
        return parse_scenario(value)
    raise InputError(f"scenario: {shown(value)} is neither a Scenario nor text such as 100x512@8K")
