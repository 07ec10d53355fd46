"""Which attributes of classes are columns, as their classes are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import openings
from session_guard.names.bindings import Call, Function, Ref, Subscript
from session_guard.names.evaluation import class_member
from session_guard.names.values import UNKNOWN, External, Literal, LocalClass, Result
from session_guard.project.setters import may_be_mapped

if TYPE_CHECKING:
    from collections.abc import Collection

    from session_guard.names.bindings import Binding

_COLUMNS = frozenset(
    {
        "sqlalchemy.Column",
        "sqlalchemy.orm.mapped_column",
        "sqlmodel.Field",
    }
)
_MAPPING = ("sqlalchemy.", "sqlmodel.")
# Arguments of a column that the database works out, or that is not loaded with its object.
_FETCHED = frozenset({"Computed", "FetchedValue", "Identity"})
_FETCHING = frozenset(
    """
    deferred deferred_group deferred_raiseload onupdate server_onupdate server_default
    sa_column sa_column_args sa_column_kwargs
    """.split()
)
# Methods that a class may have for what runs when an object is made, or an attribute of it is set.
_SEEING = frozenset(
    """
    __init__ __new__ __post_init__ __setattr__ __getattribute__ __init_subclass__
    """.split()
)


def is_column(owners: Collection[LocalClass], name: str) -> bool:
    """Return whether a name is a column of all those classes that have it, and of one."""
    # What is no mapped class keeps values of columns in attributes of their names.
    mapped = [owner for owner in owners if may_be_mapped(owner)]
    members = [
        member
        for owner in mapped
        for member in class_member(owner, name)
        if member != UNKNOWN and not (isinstance(member, Literal) and _is_sqlmodel(owner))
    ]
    return (bool(members) or any(_is_mapped(owner, name) for owner in mapped)) and all(
        isinstance(member, Result)
        and isinstance(member.function, External)
        and member.function.dotted in _COLUMNS
        for member in members
    )


def is_fetched_later(owners: Collection[LocalClass], name: str) -> bool:
    """Return whether a column may be loaded later than its object, or anew after a flush."""
    calls = [
        member.call
        for owner in owners
        for member in class_member(owner, name)
        if isinstance(member, Result)
    ]
    return any(
        not _FETCHING.isdisjoint(keyword for keyword, _ in call.keywords)
        or any(
            isinstance(one, Call)
            and isinstance(one.function, Ref)
            and one.function.parts[-1] in _FETCHED
            for one in call.arguments
        )
        for call in calls
    )


def is_made_silently(owner: LocalClass) -> bool:
    """Return whether making an object of a class runs no code that may give it to others.

    Its constructor is SQLAlchemy's, and nothing of the project sees what an attribute is given.
    """
    if not may_be_mapped(owner):
        return False
    for one in openings.lineage(owner):
        definition = one.definition
        if definition.is_made_over or not _SEEING.isdisjoint(definition.scope.bindings):
            return False
        for base in definition.bases:
            for value in one.home.evaluate(base, definition.place) or (UNKNOWN,):
                made_by = value.function if isinstance(value, Result) else value
                if not isinstance(made_by, LocalClass) and not (
                    isinstance(made_by, External) and made_by.dotted.startswith(_MAPPING)
                ):
                    return False
        for bindings in definition.scope.bindings.values():
            if any(_is_decorated(binding.value, "validates") for binding in bindings):
                return False
    return True


def _is_decorated(definition: object, name: str) -> bool:
    if not isinstance(definition, Function):
        return False
    decorators = (d.function if isinstance(d, Call) else d for d in definition.decorators)
    return any(isinstance(d, Ref) and d.parts[-1] == name for d in decorators)


def gives_columns(owner: LocalClass, name: str) -> bool:
    """Return whether selecting an attribute of a class gives values, and no objects.

    Besides its columns that is what SQLAlchemy makes of a mapped class's method (a hybrid, say),
    what is annotated `Mapped`, and what comes from a base that is no class of the project.
    """
    if is_column([owner], name):
        return True
    if not _is_surely_mapped(owner):
        return False
    for one in openings.lineage(owner):
        scope = one.definition.scope
        if _is_annotated_mapped(one, name):
            return True
        if name in scope.bindings:
            return all(_is_made_over(one, binding) for binding in scope.bindings[name])
        if name in scope.attributes or name in scope.annotations:
            return False
    return True


def _is_made_over(owner: LocalClass, binding: Binding) -> bool:
    """Return whether SQLAlchemy decorates a method: `@hybrid_property`, or its `.expression`."""
    definition = binding.value
    if not isinstance(definition, Function):
        return False
    decorators = (d.function if isinstance(d, Call) else d for d in definition.decorators)
    found = [
        value
        for d in decorators
        for value in owner.home.evaluate(d, definition.place) or (UNKNOWN,)
    ]
    return any(isinstance(one, External) and one.dotted.startswith(_MAPPING) for one in found)


def _is_surely_mapped(owner: LocalClass) -> bool:
    """Return whether a class has a base of SQLAlchemy's, or a column."""
    for one in openings.lineage(owner):
        scope, place = one.definition.scope, one.definition.place
        for base in one.definition.bases:
            for value in one.home.evaluate(base, place):
                made_by = value.function if isinstance(value, Result) else value
                if isinstance(made_by, External) and made_by.dotted.startswith(_MAPPING):
                    return True
        if any(is_column([one], name) for name in {*scope.bindings, *scope.annotations}):
            return True
    return False


def _is_sqlmodel(owner: LocalClass) -> bool:
    return "sqlmodel.SQLModel" in openings.ancestry(owner)


def _is_mapped(owner: LocalClass, name: str) -> bool:
    """Return whether a class has `name: Mapped[str]` with nothing assigned, which is a column.

    SQLModel's classes have `name: str`, and may give it a default.
    """
    if _is_sqlmodel(owner):
        return name in owner.definition.scope.annotations
    return _is_annotated_mapped(owner, name)


def _is_annotated_mapped(owner: LocalClass, name: str) -> bool:
    return any(
        isinstance(annotation, Subscript)
        and owner.home.evaluate(annotation.value, place) == (External("sqlalchemy.orm.Mapped"),)
        for annotation, place in owner.definition.scope.annotations.get(name, ())
    )
