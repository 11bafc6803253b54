"""The planner's exceptions: one small tree, each message one clear line for a person."""

from __future__ import annotations


class PlannerError(Exception):
    """Base of everything the planner raises on purpose. Command-line exit code 2."""


class InputError(PlannerError, ValueError):
    """The input is wrong: which input, what was given, what is valid, on one line."""


class ConfigError(InputError):
    """A model's config cannot be found or read, or holds a value that makes no sense."""


class UnknownNameError(InputError):
    """A model, GPU or flag nobody knows; the message names the nearest known ones."""


class UnsupportedError(InputError):
    """Known but not plannable: an architecture, KV dtype or combination without a rule.

    vLLM may well run it; the message says what would answer (``--planner vllm``).
    """
