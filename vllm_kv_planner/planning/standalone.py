"""From what was asked to an engine that is set up: the way every plan begins."""

from __future__ import annotations

from ..engine_args.described import described, named
from ..engine_args.engine_args import EngineArgs
from ..engine_args.environment import EngineEnvironment
from ..engine_args.setup import EngineSetup, resolve_setup
from ..gpu.catalogue import DEFAULT_GPU, find_gpu
from ..gpu.gpu import GPU
from ..kv_cache.specs import RequestLimits
from ..memory.versions import VersionRules
from ..model.find import FoundConfig
from ..records import dataclass
from .machine import UNKNOWN_MACHINE, Machine
from .versions import as_built, older_rules, request_limits, with_defaults

VLLM_VERSION = "0.33.0"
"""The version whose rules the stand-alone planner restates."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An engine before its memory is divided.

    Attributes:
        setup: Every default resolved, every cache layer made.
        rules: What an older version does otherwise; None for the one whose rules are restated.
        notes: What those rules changed, in sentences.
    """

    setup: EngineSetup
    rules: VersionRules | None
    notes: tuple[str, ...]

    @property
    def version(self) -> str:
        """vLLM's version whose rules are used."""
        return VLLM_VERSION if self.rules is None else self.rules.name

    @property
    def limits(self) -> RequestLimits:
        """What bounds one request."""
        return request_limits(self.setup, self.rules)


def prepare(
    args: EngineArgs,
    found: FoundConfig,
    *,
    gpu: str | GPU | None = None,
    vllm_version: str | None = None,
    environment: EngineEnvironment | None = None,
    machine: Machine = UNKNOWN_MACHINE,
) -> Prepared:
    """Set the engine up, on the default GPU where none is named.

    Raises:
        PlannerError: The engine cannot be planned; one line says why.
    """
    gpu = DEFAULT_GPU if gpu is None else gpu
    device = machine.device(gpu if isinstance(gpu, GPU) else find_gpu(gpu))
    if device.machine_gpus is not None:
        from ..engine_args.choose_gpu import check_count

        check_count(device, args.num_gpus)
    model = described(found, args)
    rules = older_rules(vllm_version)
    said: tuple[str, ...] = ()
    if rules is not None:
        model = as_built(model, rules)
        args, said = with_defaults(args, model, rules)
    with named(found):
        setup = resolve_setup(args, model, device, environment)
    check_checkpoints(setup, found)
    return Prepared(setup=setup, rules=rules, notes=said)


def check_checkpoints(setup: EngineSetup, found: FoundConfig) -> None:
    """Refuse a model, or a draft model, whose folder holds a part of its checkpoint.

    Raises:
        ConfigError: Names the file and what is amiss.
    """
    draft = None if setup.draft is None else setup.draft.found
    for each in (found, draft):
        if each is None or each.path is None:
            continue
        from ..memory.weights.checkpoint import check_whole, stored_layers

        layers = stored_layers(setup.model) if each is found else None
        check_whole(each, setup.args.load_format, layers)
