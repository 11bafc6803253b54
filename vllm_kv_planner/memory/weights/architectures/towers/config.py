"""A nested config with its class's defaults behind it."""

from __future__ import annotations

from .....model.config import Config
from .....model.defaults import defaults_for
from ..facts import Facts


def part(facts: Facts, key: str, fallback_type: str = "") -> Config | None:
    """``vision_config`` or the like; None where the model has none.

    Args:
        facts: The model.
        key: Its name in the whole config.
        fallback_type: Its ``model_type``, where neither it nor the outer class says.
    """
    outer = defaults_for(facts.top.str("model_type", default="")).get(key)
    outer = outer if isinstance(outer, dict) else {}
    if key in facts.top.data and facts.top.data[key] is None:
        return None
    config = facts.top.opt_sub(key) or Config({}, facts.top.where, prefix=f"{key}.")
    kind = config.opt_str("model_type") or outer.get("model_type") or fallback_type
    own = defaults_for(str(kind)) or defaults_for(fallback_type)
    return config.with_defaults({**own, **outer})
