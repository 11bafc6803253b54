"""Frozen records: the part of ``dataclasses`` that the planner uses, built when first needed.

``import dataclasses`` costs more than an empty interpreter takes to start (it imports ``inspect``),
and every decorated class compiles its methods whether a plan needs them or not; with a hundred
small classes that is most of the time a plan takes. Here a class's constructor is compiled when
its first instance is made. To type checkers these *are* dataclasses, and they behave as such:
keyword-only fields, inheritance, defaults, ``__post_init__``, equality, hashing and ``repr`` by
field, assignment refused where frozen (``tests/test_records.py`` compares them with dataclasses).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
else:
    from operator import attrgetter

    class _Missing:
        def __repr__(self):
            return "MISSING"

    MISSING = _Missing()

    class Field:
        """One field: its name and how it is filled, compared, hashed and shown."""

        __slots__ = ("compare", "default", "default_factory", "hash", "kw_only", "name", "repr")

        def __init__(self, default, default_factory, repr, hash, compare):
            self.name = ""
            self.default = default
            self.default_factory = default_factory
            self.repr = repr
            self.hash = hash
            self.compare = compare
            self.kw_only = False

    def field(*, default=MISSING, default_factory=MISSING, repr=True, hash=None, compare=True):
        """As ``dataclasses.field``."""
        return Field(default, default_factory, repr, hash, compare)

    class FrozenInstanceError(AttributeError):
        """Assignment to a field of a frozen record."""

    def dataclass(cls=None, /, *, frozen=False, kw_only=False, eq=True):
        """As ``dataclasses.dataclass``, its methods made when they are first called."""

        def made(cls):
            found = {}
            for base in reversed(cls.__mro__[1:]):
                for each in base.__dict__.get("__record_fields__", ()):
                    found[each.name] = each
            notes = cls.__dict__.get("__annotations__", {})  # noqa: RUF063 (inspect is what costs)
            for name, note in notes.items():
                if "ClassVar" in note:
                    continue
                value = cls.__dict__.get(name, MISSING)
                each = (
                    value if isinstance(value, Field) else Field(value, MISSING, True, None, True)
                )
                each.name = name
                each.kw_only = kw_only
                found[name] = each
                if isinstance(value, Field):
                    if each.default is MISSING:
                        delattr(cls, name)
                    else:
                        setattr(cls, name, each.default)
            cls.__record_fields__ = tuple(found.values())
            cls.__record_names__ = found.keys()
            cls.__dataclass_fields__ = _StandardFields()
            cls.__match_args__ = tuple(each.name for each in found.values() if not each.kw_only)
            cls.__init__ = _first_init(cls, frozen)
            if "__repr__" not in cls.__dict__:
                cls.__repr__ = _repr
            if eq and "__eq__" not in cls.__dict__:
                cls.__eq__ = _eq(cls)
                cls.__hash__ = _hash(cls) if frozen else None
            if frozen:
                cls.__setattr__ = _refuse_set
                cls.__delattr__ = _refuse_delete
            return cls

        return made if cls is None else made(cls)

    class _StandardFields:
        """``__dataclass_fields__``: lets ``dataclasses.asdict`` and the like take a record."""

        def __init__(self):
            self._made = {}

        def __get__(self, _, cls):
            found = self._made.get(cls)
            if found is None:
                found = self._made[cls] = self._make(cls)
            return found

        @staticmethod
        def _make(of):
            import dataclasses

            shape = []
            for each in of.__record_fields__:
                filled = {}
                if each.default is not MISSING:
                    filled["default"] = each.default
                elif each.default_factory is not MISSING:
                    filled["default_factory"] = each.default_factory
                shape.append((each.name, object, dataclasses.field(kw_only=True, **filled)))
            return dataclasses.make_dataclass(of.__name__, shape).__dataclass_fields__

    def _first_init(cls, frozen):
        def __init__(self, *args, **kwargs):
            cls.__init__ = _compiled_init(cls, frozen)
            cls.__init__(self, *args, **kwargs)

        return __init__

    def _compiled_init(cls, frozen):
        plain, keyword, body = [], [], []
        scope = {"MISSING": MISSING, "put": object.__setattr__}
        for each in cls.__record_fields__:
            name = each.name
            parameter = name
            value = name
            if each.default is not MISSING:
                scope[f"default_{name}"] = each.default
                parameter = f"{name}=default_{name}"
            elif each.default_factory is not MISSING:
                scope[f"factory_{name}"] = each.default_factory
                parameter = f"{name}=MISSING"
                value = f"factory_{name}() if {name} is MISSING else {name}"
            (keyword if each.kw_only else plain).append(parameter)
            body.append(f"put(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        if hasattr(cls, "__post_init__"):
            body.append("self.__post_init__()")
        star = ["*", *keyword] if keyword else []
        head = ", ".join(["self", *plain, *star])
        lines = "\n ".join(body or ["pass"])
        exec(f"def __init__({head}):\n {lines}", scope)
        made = scope["__init__"]
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        return made

    def _values(cls, names):
        if not names:
            return lambda _: ()
        if len(names) == 1:
            (name,) = names
            return lambda record: (getattr(record, name),)
        return attrgetter(*names)

    def _eq(cls):
        values = _values(cls, [each.name for each in cls.__record_fields__ if each.compare])

        def __eq__(self, other):
            if other.__class__ is not self.__class__:
                return NotImplemented
            return self is other or values(self) == values(other)

        return __eq__

    def _hash(cls):
        values = _values(
            cls,
            [
                each.name
                for each in cls.__record_fields__
                if (each.compare if each.hash is None else each.hash)
            ],
        )

        def __hash__(self):
            return hash(values(self))

        return __hash__

    def _repr(self):
        shown = (
            f"{each.name}={getattr(self, each.name)!r}"
            for each in self.__record_fields__
            if each.repr
        )
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    def _refuse_set(self, name, value):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_delete(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def fields(record):
        """The record's fields, in order."""
        return record.__record_fields__

    def is_dataclass(value):
        """Whether ``value`` is a record or a class of them."""
        return hasattr(value, "__record_fields__")

    def replace(record, /, **changes):
        """A copy with some fields changed."""
        cls = record.__class__
        if not changes.keys() <= cls.__record_names__:
            unknown = sorted(changes.keys() - cls.__record_names__)
            raise TypeError(f"{cls.__name__} has no field {', '.join(unknown)}")
        copy = object.__new__(cls)
        held = record.__dict__
        copy.__dict__.update({name: held[name] for name in cls.__record_names__}, **changes)
        if hasattr(cls, "__post_init__"):
            copy.__post_init__()
        return copy


def as_plain(value: object) -> object:
    """Records as dictionaries and tuples as lists, all the way down."""
    if is_dataclass(value):
        return {each.name: as_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [as_plain(item) for item in value]
    return value


__all__ = ["MISSING", "as_plain", "dataclass", "field", "fields", "is_dataclass", "replace"]
