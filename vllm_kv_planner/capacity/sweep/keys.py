"""What a row is known by when a sweep is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable

from ...engine_args.engine_args import EngineArgs
from ...records import replace
from .columns import plain
from .grid import Setup
from .work import Work


def row_keys(work: Work) -> Callable[[Setup], str]:
    """The key of each set-up: 16 hexadecimal digits, the same in every run.

    It depends on all that is said of the row: the set-up, GPU sizes, the planner, vLLM's
    environment, free memory and lessons. It does not depend on what the model's config says.
    """
    from hashlib import blake2b

    common = blake2b(_said(work).encode(), digest_size=8)
    gpus = {name: repr(gpu) for name, gpu in work.gpus.items()}

    def key(setup: Setup) -> str:
        made = common.copy()
        values = {name: plain(value) for name, value in setup.items()}
        values["gpu"] = [setup.get("gpu"), gpus[setup.get("gpu")]]
        made.update(json.dumps(values, sort_keys=True, default=repr).encode())
        return made.hexdigest()

    return key


def _said(work: Work) -> str:
    """What holds for every row; of any model, as they differ in their configs alone."""
    base = next(each for each in work.models.values() if not isinstance(each, str))
    args = replace(base.args, model=EngineArgs.model)
    return repr((base.planner, base.vllm_version, base.environment, base.machine, args))
