"""Write ``vllm_kv_planner/model/defaults.jsonl``: the defaults of transformers' config classes.

    python tools/make_defaults.py

And into ``architectures/model_types.json`` beside it which model types there are (``known``), and
those that transformers' own tables give an architecture of ours (``types_of``).

Needs transformers; where vLLM is installed too, its own config classes come before those of
transformers, as they do in vLLM. One model type a line, sorted; the first line names versions.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import transformers  # type: ignore[import-not-found,unused-ignore]
from transformers.models.auto import (  # type: ignore[import-not-found,unused-ignore]
    modeling_auto,
)

MODEL = Path(__file__).resolve().parent.parent / "vllm_kv_planner" / "model"
OUTPUT = MODEL / "defaults.jsonl"
TYPES = MODEL / "architectures" / "model_types.json"

# Keys that a size, a layer's kind or the length of the context can depend on.
RELEVANT = re.compile(
    r"""(.*_)?vocab_size.* | .*hidden_size.* | .*intermediate_size.* | (num|n|first|last)_.*
    | .*_?layers?(_.*)? | .*heads?(_.*)?
    | .*head_dim.* | .*embed_dim | .*embd | n_(head|layer|inner|positions|groups?|ctx).* | d_.*
    | .*ffn_dim | dim | .*_dim | .*_rank | depth | depths | .*window.* | .*attention_(type|chunk).*
    | .*chunk_size | layer_types | .*pattern | .*position.* | .*length.* | .*expert.* | .*topk.*
    | .*top_k.* | moe_.* | .*_freq | .*period | .*offset | .*interval | .*conv.* | .*state.*
    | mamba.* | .*ssm.* | time_step_rank | expand | .*kernel.* | index_.* | compress.*
    | kv_.* | .*_kv_.* | .*sharing.* | multi_query.* | new_decoder_architecture | parallel_attn
    | alibi | tie_word_embeddings | .*bias | .*num_(channels|mel_bins).* | .*patch.* | .*image_size
    | .*merge.* | mm_.* | .*_factor | .*ratio | sliding.* | use_.* | .*sparse.* | .*_config
    | .*dtype | .*tokens_per.* | is_.* | add_.* | projection.* | mlp_.* | no_rope.*
    | .*interleave.*""",
    re.VERBOSE,
)
IRRELEVANT = re.compile(
    r"""use_cache | .*_token_id | .*dropout.* | .*_prob | .*init.* | .*loss.* | id2label | label2id
    | return_.* | output_.* | is_composition | problem_type | transformers_version | .*jitter.*
    | chunk_size_feed_forward | .*eps(ilon)? | (min|max)_length | length_penalty
    | use_bfloat16 | architectures | .*_layerdrop | dtype | torch_dtype""",
    re.VERBOSE,
)


def main() -> None:
    """Write the table, following nested configs to their own model types."""
    classes = {name: transformers.CONFIG_MAPPING[name] for name in transformers.CONFIG_MAPPING}
    versions = {"transformers": transformers.__version__}
    wanted = language_model_types()
    try:
        import vllm  # type: ignore[import-not-found,unused-ignore]
        from vllm.transformers_utils.config import (  # type: ignore[import-not-found,unused-ignore]
            _CONFIG_REGISTRY,
        )
    except ImportError:
        pass
    else:
        versions["vllm"] = vllm.__version__
        for name in _CONFIG_REGISTRY:
            classes[name] = _CONFIG_REGISTRY[name]
            wanted.add(name)
    write_types(classes)
    table: dict[str, dict[str, Any]] = {}
    inside: dict[str, dict[str, str | None] | None] = {}
    while wanted - table.keys():
        for name in sorted(wanted - table.keys()):
            table[name] = defaults(classes[name], classes) if name in classes else {}
            inside[name] = parts(classes.get(name), classes)
            wanted |= {kind for kind in (inside[name] or {}).values() if kind} | {
                value["model_type"]
                for value in table[name].values()
                if isinstance(value, dict) and "model_type" in value
            }
    lines: list[Any] = [{"format": 2, "from": versions}]
    for name in sorted(table):
        line = {"id": name, "defaults": table[name], **insisted(classes.get(name))}
        line |= {"parts": inside[name]} if inside[name] != {} else {}
        lines += [line] if len(line) > 2 or table[name] else []
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    OUTPUT.write_text(text)
    print(f"{len(lines) - 1} model types, {len(text):,} bytes, from {versions}")


def write_types(known: Iterable[str]) -> None:
    """Renew ``known`` and ``types_of``; the rest stays."""
    rows = {
        architecture
        for name in ("attention.json", "latent_state.json")
        for architecture in json.loads((TYPES.parent / name).read_text())
    }
    types_of: dict[str, set[str]] = {"PhiForCausalLM": {"phi-msft"}}  # before transformers had it
    for name in filter(lambda name: name.endswith("_MAPPING_NAMES"), dir(modeling_auto)):
        for kind, named in getattr(modeling_auto, name).items():
            for architecture in rows & {*([named] if isinstance(named, str) else named)}:
                types_of.setdefault(architecture, set()).add(kind)
    table = json.loads(TYPES.read_text())
    table["types_of"] = {name: " ".join(sorted(types_of[name])) for name in sorted(types_of)}
    table["known"] = sorted(known)
    TYPES.write_text(json.dumps(table, indent=0) + "\n")


def language_model_types() -> set[str]:
    """Model types with a class that generates text, answers about pictures, or embeds."""
    names = (
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
        "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
        "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    )
    return {kind for name in names for kind in getattr(modeling_auto, name, {})}


def defaults(cls: Any, classes: dict[str, Any]) -> dict[str, Any]:
    """The fixed defaults of one class; nested configs as model_type and differences."""
    fixed = {key: value for key, value in declared(cls).items() if relevant(key, value)}
    try:
        made = cls()
    except Exception:  # some classes cannot be made without arguments
        return fixed
    pattern = getattr(made, "_sliding_window_pattern", None)
    if isinstance(pattern, int):  # read from the config though the class declares no such field
        fixed.setdefault("sliding_window_pattern", pattern)
    for key, nested in vars(made).items():
        model_type = getattr(nested, "model_type", "")
        if not isinstance(nested, transformers.PreTrainedConfig) or model_type not in classes:
            continue
        own, plain = nested.to_dict(), classes[model_type]().to_dict()
        different = {
            name: value
            for name, value in own.items()
            if relevant(name, value) and plain.get(name) != value and not isinstance(value, dict)
        }
        fixed[key] = {"model_type": model_type, **different}
    return fixed


def parts(cls: Any, classes: dict[str, Any]) -> dict[str, str | None] | None:
    """The class of each nested config, by key: its name in ``classes``; None: by its model_type.

    Other objects stay as they are. None altogether: not to be said. A class that ``classes`` has
    no name for goes in by its own.
    """
    given = dict(getattr(cls, "sub_configs", {}))
    if not given and cls is not None:
        try:
            made = vars(cls())
        except Exception:  # some classes cannot be made without arguments
            return None
        given = {
            key: type(nested)
            for key, nested in made.items()
            if isinstance(nested, transformers.PreTrainedConfig)
        }
    found: dict[str, str | None] = {}
    for key, inner in given.items():
        found[key] = None
        if issubclass(inner, transformers.PreTrainedConfig):
            own = inner.model_type
            named = own if classes.get(own) is inner else inner.__name__.lower()
            classes.setdefault(named, inner)
            found[key] = named
    return found


def insisted(cls: Any) -> dict[str, Any]:
    """What a class refuses: ``types`` of fields; ``divides``; ``lengths``; unknown ``layer_types``.

    Types that JSON cannot hold are left out, and fields with one such. ``divides`` is what
    ``validate_architecture`` says in its plainest form; a pair's first must be a multiple of its
    second. ``lengths``: lists, and the number of their items.
    """
    if cls is None:
        return {}
    base = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    base -= {name for kind in cls.__mro__ for name in own_fields(kind)}
    aliases = sorted(cls.attribute_map.items())
    types: dict[str, list[str]] = {}
    for field in dataclasses.fields(cls):
        kinds = None if field.name in base else json_kinds(field.type)
        names = [field.name, *(alias for alias, name in aliases if name == field.name)]
        if kinds:
            types.setdefault("|".join(sorted(kinds)), []).extend(names)
    source = inspect.getsource(cls.validate_architecture)
    pairs = re.findall(r"if self\.(\w+) % self\.(\w+)(?: != 0)?:", source)
    lengths = re.findall(r"(?:if|and) len\(self\.(\w+)\) != self\.(\w+)\s*(?::|\n\s*\):)", source)
    found: dict[str, Any] = {kinds: " ".join(names) for kinds, names in sorted(types.items())}
    return {
        **({"types": found} if found else {}),
        **({"divides": pairs} if pairs else {}),
        **({"lengths": lengths} if lengths else {}),
        **({"layer_types": True} if minds_layer_types(cls) else {}),
    }


def minds_layer_types(cls: Any) -> bool:
    """Whether the class refuses types of layers that nobody knows."""
    for types in (["unknown_kind"], ["unknown_kind", "full_attention"]):
        try:
            cls(layer_types=types, num_hidden_layers=len(types))
        except Exception as error:
            if "`layer_types` entries must be" in str(error):
                return True
    return False


def own_fields(cls: type) -> set[str]:
    """Fields that a class below the config of all models declares itself."""
    base = transformers.PreTrainedConfig
    own = vars(cls).get("__annotations__", {})
    return set(own) if issubclass(cls, base) and cls is not base else set()


def json_kinds(kind: Any) -> set[str]:
    """Names of the JSON types that a field of this type takes; empty: not to be said."""
    if kind is None or kind is type(None):
        return {"null"}
    if kind in (int, float, bool, str):
        return {kind.__name__}
    origin = get_origin(kind) or kind
    if origin in (Union, UnionType):
        inner = [json_kinds(one) for one in get_args(kind)]
        return set().union(*inner) if all(inner) else set()
    if origin in (list, tuple, Sequence):
        return {"list"}
    return {"dict"} if origin is dict or inspect.isclass(origin) else set()


def declared(cls: Any) -> dict[str, Any]:
    """Defaults as the class declares them: None where it derives the value later."""
    found: dict[str, Any] = {}
    if dataclasses.is_dataclass(cls):
        found = {f.name: f.default for f in dataclasses.fields(cls)}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            found[name] = parameter.default
    return found


def relevant(key: str, value: Any) -> bool:
    """Whether a default is a plain value that a size can depend on."""
    if key == "is_encoder_decoder" and not value:  # every class has it
        return False
    if isinstance(value, (list, tuple)):
        if not all(isinstance(item, (bool, int, float, str)) for item in value) or len(value) > 200:
            return False
    elif not isinstance(value, (bool, int, float, str)):
        return False
    return bool(RELEVANT.fullmatch(key)) and not IRRELEVANT.fullmatch(key)


if __name__ == "__main__":
    main()
