"""What an engine's connections verify of the server that answers."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.engine.connect_args import node_of_entry
from session_guard.names.bindings import Ref
from session_guard.names.values import External, Literal, Result
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.engine.facts import Engine
    from session_guard.module import Module
    from session_guard.names.bindings import Assigned, Place
    from session_guard.names.values import Located, Namespace, Value

_LOCAL = ("localhost", "127.0.0.1", "::1")
_DEFAULT = External("ssl.create_default_context")
_CONTEXT = External("ssl.SSLContext")
_UNVERIFIED = (External("ssl._create_unverified_context"), External("ssl._create_stdlib_context"))
_UNVERIFIED_PROTOCOLS = ("ssl.PROTOCOL_TLS", "ssl.PROTOCOL_SSLv23", "ssl.PROTOCOL_TLSv1_2")
# What is assigned to `verify_mode` or to `check_hostname`; 0 and False are equal.
_OFF = (External("ssl.CERT_NONE"), External("ssl.VerifyMode.CERT_NONE"), Literal(False))

_REQUIRE = '`ssl="require"` encrypts and verifies nothing: anyone can answer'
_NO_CERTIFICATES = "this context verifies no certificate: anyone can answer for the database"
_NO_HOST_NAMES = "this context verifies no host name: any certificate will do"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a connection does not verify, and the node that says so."""

    node: cst.CSTNode
    message: str


class _Other(enum.Enum):
    """What else a value of `ssl` may mean."""

    PLAIN = enum.auto()
    """Encrypted or not, as it comes: nobody takes it for verified."""
    VERIFIED = enum.auto()
    UNKNOWN = enum.auto()


def faults(engine: Engine, module: Module) -> list[Fault]:
    """Return what an engine encrypts without verifying, if it verifies on no way at all."""
    if engine.url.host in _LOCAL:
        return []
    found = list(_judged(engine, module))
    if any(item in (_Other.VERIFIED, _Other.UNKNOWN) for item in found):
        return []
    return [item for item in found if isinstance(item, Fault)]


def _judged(engine: Engine, module: Module) -> Iterator[Fault | _Other]:
    """Yield what each of the values means that `ssl` may have."""
    given = engine.connect_args
    for entry in given.entries.get("ssl", ()):
        if entry.value is None:
            yield _Other.UNKNOWN
            continue
        node = node_of_entry(entry, "ssl", module) or engine.call
        for value in entry.value.values():
            yield _of_value(value, entry.value, node, engine, module)
    if given.is_present("ssl"):
        return
    if given.is_open:
        yield _Other.UNKNOWN
    elif "ssl" in engine.url.query:
        yield _of_mode(engine.url.value("ssl"), engine.call)


def _of_value(
    value: Value, located: Located, node: cst.CSTNode, engine: Engine, module: Module
) -> Fault | _Other:
    if isinstance(value, Literal):
        if isinstance(value.value, str):
            return _of_mode(value.value, node)
        return _Other.VERIFIED if value.value else _Other.PLAIN
    if isinstance(value, Result):
        return _of_context(value, located, node, engine, module)
    return _Other.UNKNOWN


def _of_mode(mode: str | None, node: cst.CSTNode) -> Fault | _Other:
    if mode == "require":
        return Fault(node, _REQUIRE)
    if mode in ("disable", "allow", "prefer"):
        return _Other.PLAIN
    return _Other.UNKNOWN if mode is None else _Other.VERIFIED


def _of_context(
    context: Result, located: Located, node: cst.CSTNode, engine: Engine, module: Module
) -> Fault | _Other:
    is_verified = _is_verified_as_made(context)
    if is_verified is None:
        return _Other.UNKNOWN
    # The module that makes it may change it, and the one that connects with it.
    homes = {context.home.path: context.home, engine.result.home.path: engine.result.home}
    for attribute, message in (
        ("verify_mode", _NO_CERTIFICATES),
        ("check_hostname", _NO_HOST_NAMES),
    ):
        # Whether it may be on, and the node that last turned it off.
        on, turned_off = is_verified, node
        for home in homes.values():
            for owner, assigned in _assigned(context, attribute, home):
                if not _turns_off(assigned, home):
                    on = True
                elif _runs_in_any_case(assigned.place, owner, context, located):
                    on = False
                    if isinstance(assigned.node, cst.CSTNode) and module.parent(assigned.node):
                        turned_off = assigned.node
        if not on:
            return Fault(turned_off, message)
    return _Other.VERIFIED


def _is_verified_as_made(context: Result) -> bool | None:
    """Return whether a new context verifies what answers; None where that is not known."""
    call = context.call
    if context.function in _UNVERIFIED:
        return False
    if context.function not in (_DEFAULT, _CONTEXT) or call.unpacks:
        return None
    is_default = context.function == _DEFAULT
    name = "purpose" if is_default else "protocol"
    given = call.arguments[0] if call.arguments else call.keyword(name)
    found = context.home.evaluate(given, context.place) if given is not None else ()
    dotted = found[0].dotted if len(found) == 1 and isinstance(found[0], External) else None
    if is_default:
        return True if given is None or dotted == "ssl.Purpose.SERVER_AUTH" else None
    if given is None or dotted in _UNVERIFIED_PROTOCOLS:
        return False
    return True if dotted == "ssl.PROTOCOL_TLS_CLIENT" else None


def _assigned(context: Result, attribute: str, home: Namespace) -> Iterator[tuple[Ref, Assigned]]:
    """Yield what a module assigns to an attribute of a context, with the name of the context."""
    for parts, several in home.scope.assigned_attributes.items():
        if parts[-1] == attribute:
            owner = Ref(parts[:-1])
            for assigned in several:
                if any(
                    isinstance(value, Result) and value.is_made_where(context)
                    for value in home.evaluate(owner, assigned.place)
                ):
                    yield owner, assigned


def _turns_off(assigned: Assigned, home: Namespace) -> bool:
    """Return whether an assignment to a context's attribute switches verification off for sure."""
    if assigned.value is None:
        return False
    return all(value in _OFF for value in home.evaluate(assigned.value, assigned.place))


def _runs_in_any_case(place: Place, owner: Ref, context: Result, located: Located) -> bool:
    """Return whether an assignment to `owner` runs for every context that is given as `ssl`.

    A function makes a new one each time: elsewhere it has to be the same name that is given.
    """
    if place.scope is context.place.scope:
        other = context.place
    elif (
        place.scope is located.place.scope
        and isinstance(located.expr, Ref)
        and located.expr.parts == owner.parts
    ):
        other = located.place
    else:
        return False
    return place.branches == other.branches[: len(place.branches)]
