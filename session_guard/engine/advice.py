"""What to say of an engine's pooler settings, and how to complete them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard import standard
from session_guard.engine import connect_args
from session_guard.engine.facts import Engine, names_by_class
from session_guard.names.bindings import Call, Constant
from session_guard.names.values import External, Literal, LocalFunction
from session_guard.rewriting.arguments import NotFixableError, argument
from session_guard.rule import Applicability, Rewrite
from session_guard.standard import ANONYMOUS_NAMES, DIALECT_CACHE, DRIVER_CACHE, NAME_FUNC, Names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module
    from session_guard.names.bindings import Place
    from session_guard.names.values import Namespace


def settings_given(engine: Engine) -> list[str]:
    """Return which of the pooler's settings an engine has, with their values where it matters."""
    given = []
    if engine.names not in (Names.DEFAULT, None):
        given.append("`connection_class`" if engine.is_named_by_class else f"`{NAME_FUNC}`")
    for key in (DRIVER_CACHE, DIALECT_CACHE):
        is_off = engine.is_off(key)
        if is_off:
            given.append(f"`{key}=0`")
        elif is_off is False and key in engine.connect_args.entries:
            given.append(f"`{key}` other than 0")
    return given


def missing(engine: Engine) -> dict[str, str]:
    """Return the settings that complete what an engine has, as code by key."""
    wanted = {}
    if engine.names in {Names.DEFAULT, *standard.REPEATED}:
        wanted[NAME_FUNC] = ANONYMOUS_NAMES
    wanted |= {key: "0" for key in (DRIVER_CACHE, DIALECT_CACHE) if not engine.is_off(key)}
    return wanted


def other_answers(engine: Engine) -> list[str]:
    """Return what other answers are worth that an engine has in the place of the settings."""
    said = []
    driver_off, dialect_off = engine.is_off(DRIVER_CACHE), engine.is_off(DIALECT_CACHE)
    asyncpg = engine.versions.asyncpg
    is_unnamed = driver_off and asyncpg and asyncpg.is_surely_at_least(*standard.UNNAMED_SINCE)
    if not engine.keeps_connections and engine.names is Names.DEFAULT and not is_unnamed:
        alone = "" if settings_given(engine) else " alone"
        said.append(
            f"`NullPool`{alone} does not help: names meet those that other clients left on the "
            "server's connections"
        )
    if engine.is_named_by_class:
        said.append(
            "`_get_unique_id` is private to asyncpg, which calls it up to 0.30, and later where "
            "its cache is on"
        )
    if _runs(engine, "DEALLOCATE ALL"):
        said.append(
            "`DEALLOCATE ALL` frees names for one transaction alone"
            if driver_off and dialect_off
            else "`DEALLOCATE ALL` drops what a cache that is left on goes on using, and other "
            "clients' statements"
        )
    if _changes_ping(engine):
        said.append("doing without the dialect's `do_ping` mends the pool's ping alone")
    return said


def _runs(engine: Engine, statement: str) -> bool:
    """Return whether a call in the engine's module is given a statement as a literal."""
    return any(
        isinstance(argument, Constant)
        and isinstance(argument.value, str)
        and argument.value.strip(" ;\n").upper() == statement
        for call, _ in engine.result.home.scope.calls
        for argument in call.arguments
    )


def _changes_ping(engine: Engine) -> bool:
    """Return whether the engine's module replaces or removes the ping of a dialect."""
    scope = engine.result.home.scope
    return any(parts[-1] == "do_ping" for parts in scope.assigned_attributes) or any(
        "do_ping" in definition.scope.bindings for definition in scope.classes
    )


def completion(engine: Engine, module: Module) -> Rewrite:
    """Return the fix that completes an engine's settings.

    Raises NotFixableError.
    """
    ensure_buildable(engine)
    wanted = missing(engine)
    known = engine.versions.sqlalchemy
    too_old = known is not None and known.is_surely_below(*standard.NAME_FUNC_SINCE)
    if NAME_FUNC in wanted and too_old:
        raise NotFixableError(f"`{NAME_FUNC}` needs SQLAlchemy 2.0.10 or later ({known})")
    replacements = connect_args.setting(engine, module, wanted)
    names = " and ".join(f"`{key}`" for key in wanted)
    doubts = []
    if engine.names is Names.DEFAULT and not (
        known is not None and known.is_surely_at_least(*standard.NAME_FUNC_SINCE)
    ):
        doubts.append(
            f"`{NAME_FUNC}` needs SQLAlchemy 2.0.10, and which one this project runs is not known"
        )
    if engine.pooler == "auto" and not settings_given(engine):
        doubts.append("where there is no pooler it costs a third of the throughput")
    doubt = f"; {'; '.join(doubts)}" if doubts else ""
    return Rewrite(
        Applicability.UNSAFE if doubts else Applicability.SAFE,
        f"set {names} in `connect_args`{doubt}",
        replacements,
    )


def ensure_buildable(engine: Engine) -> None:
    """Raise NotFixableError where an engine would still not be built with its settings completed.

    What stands in the call itself, SG203 moves.
    """
    for key in sorted(standard.ONLY_ASYNCPG & engine.arguments.certain):
        if argument(engine.call, key) is None:
            raise NotFixableError(
                f"`{key}` is no argument of the engine, which raises a `TypeError`, and comes with "
                "`**`"
            )


def verdict(engine: Engine) -> str | None:
    """Return what is wrong with an engine's settings, or None where nothing is known to be."""
    names = engine.names
    driver_off, dialect_off = engine.is_off(DRIVER_CACHE), engine.is_off(DIALECT_CACHE)
    # With asyncpg's own cache on, nothing that SQLAlchemy's may be set to is right.
    if names is None or driver_off is None or (driver_off and dialect_off is None):
        return None
    value = standard.worth(
        names,
        driver_off=driver_off,
        dialect_off=dialect_off is True,
        versions=engine.versions,
        keeps_connections=engine.keeps_connections,
    )
    if value.is_right:
        return None
    given = settings_given(engine)
    if given:
        return f"{' with '.join(given)} alone {value.verdict}{behind(engine)}"
    has = "has none of a pooler's settings"
    if dialect_off is None:
        has = "leaves asyncpg's statement cache on"
    if engine.pooler == "auto":
        return (
            f"this engine {has}: not safe behind a transaction pooler; "
            'set `pooler = "direct"` if there is none'
        )
    return f"this engine {has} and {value.verdict}{behind(engine)}"


def behind(engine: Engine) -> str:
    """Name an engine's pooler, and say how it is known."""
    if engine.pooler == "auto":
        return ", behind a transaction pooler"
    title = {"supavisor": "Supavisor", "pgbouncer": "PgBouncer"}[engine.pooler]
    return f", behind {title}{known_by(engine)}"


def known_by(engine: Engine) -> str:
    """Say how an engine's pooler is known."""
    how = "`pooler`" if engine.project.settings.pooler != "auto" else "the URL"
    return f" (as {how} says)"


def creator_verdict(engine: Engine) -> str | None:
    """Return what is wrong with an engine whose `async_creator` connects, or None.

    Where it cannot be followed to `asyncpg.connect`, it may well connect to no pooler (Cloud SQL's
    connector does): then only a pooler that is known to be there counts.
    """
    connects = list(_connects(engine))
    if not connects and engine.pooler == "auto":
        return None
    driver_off = bool(connects) and all(
        isinstance(value, Literal) and standard.turns_off(DRIVER_CACHE, value.value)
        for call, place, home in connects
        for value in home.evaluate(call.keyword(DRIVER_CACHE) or Constant(None), place)
    )
    classes = tuple(
        value
        for call, place, home in connects
        if (own_class := call.keyword("connection_class")) is not None
        for value in home.evaluate(own_class, place)
    )
    names = Names.DEFAULT
    if classes:
        names = names_by_class(classes, engine.versions, driver_off=driver_off)
    value = standard.worth(
        names, driver_off=driver_off, dialect_off=False, versions=engine.versions
    )
    if value.is_right:
        return None
    given = f" with `{DRIVER_CACHE}=0`" if driver_off else ""
    return (
        "`async_creator` bypasses `connect_args`, and leaves SQLAlchemy's own statement cache on: "
        f"this{given} {value.verdict}{behind(engine)}"
    )


def _connects(engine: Engine) -> Iterator[tuple[Call, Place, Namespace]]:
    """Yield the calls of `asyncpg.connect` in the functions that an engine connects with."""
    for value in engine.arguments.values("async_creator") or ():
        if not isinstance(value, LocalFunction):
            continue
        returned = [(e, p) for e, p in value.definition.returns if isinstance(e, Call)]
        for call, place in (*value.definition.calls, *returned):
            if value.home.evaluate(call.function, place) == (External("asyncpg.connect"),):
                yield call, place, value.home
