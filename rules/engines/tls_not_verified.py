"""SG207: a connection to the database that is encrypted for whoever answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.engine.facts import Engine
    from session_guard.module import Module


class TlsNotVerified(Rule):
    code = "SG207"
    name = "tls-not-verified"
    summary = "TLS to the database that verifies no certificate or no host name"
    why = """\
Encryption alone keeps nobody out who stands between: without a certificate that is checked, and
checked for the host name, anyone can answer in the database's place and read password and rows.

- `ssl="require"` (or `?ssl=require`) encrypts and checks nothing, unless a root certificate
  happens to lie in `~/.postgresql/root.crt` or `PGSSLROOTCERT` names one.
- `verify_mode = ssl.CERT_NONE` checks nothing, `check_hostname = False` takes any certificate
  that any authority gave to anyone.

Only what an asyncpg engine of the same file connects with is reported, not contexts for HTTP; a
host that is known to be this machine is none, and neither is what is switched off in one branch
alone, for development mostly."""
    fix_safety = """\
There is no fix: which authority signed the server's certificate is not in the code. Supabase and
others sign with their own; give its file to `ssl.create_default_context(cafile=...)`."""
    since = "0.1.0"
    references = (
        "https://magicstack.github.io/asyncpg/current/api/index.html#connection",
        "https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION",
    )
    tokens = (b"create_async_engine",)
    project_names = True
    in_handler = True
    subject = Subject.MAKERS
    node_types = ("Call", "Assign")

    valid = (
        Valid("""\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine

context = ssl.create_default_context(cafile="prod-ca.crt")
context.minimum_version = ssl.TLSVersion.TLSv1_2
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": context})
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": "verify-full"})
other = create_async_engine("postgresql+asyncpg://db/app?ssl=verify-full")
plain = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": False})
"""),
        Valid("""\
import ssl
import aiohttp
from sqlalchemy.ext.asyncio import create_async_engine

http = ssl.create_default_context()
http.check_hostname = False
http.verify_mode = ssl.CERT_NONE
connector = aiohttp.TCPConnector(ssl=http)
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": True})
"""),
        Valid("""\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

if settings.is_development:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
else:
    context = ssl.create_default_context()
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": context})
"""),
        Valid("""\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

context = ssl.create_default_context()
if not settings.verify_tls:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": context})
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@localhost:5432/app", connect_args={"ssl": "require"}
)
other = create_async_engine("mysql+asyncmy://db/app", connect_args={"ssl": "require"})
"""),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": "require"})
""",
            because='`ssl="require"` encrypts and verifies nothing',
        ),
        Invalid(
            """\
import os
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(f"postgresql+asyncpg://{os.environ['DB_HOST']}/app?ssl=require")
""",
        ),
        Invalid(
            """\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine

ssl_context = ssl.create_default_context()
ssl_context.check_hostname = False
ssl_context.verify_mode = ssl.CERT_NONE
connect_args = {"ssl": False}
connect_args["ssl"] = ssl_context
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=connect_args)
""",
            because="verifies no certificate",
        ),
        Invalid(
            """\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine

def tls() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile="ca.pem")
    context.check_hostname = False
    return context

engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": tls()})
""",
            because="verifies no host name",
        ),
        Invalid(
            """\
from ssl import CERT_NONE, SSLContext, PROTOCOL_TLS_CLIENT
from sqlalchemy.ext.asyncio import create_async_engine

def build(url: str):
    ctx = SSLContext(PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = CERT_NONE
    args = dict(ssl=ctx, statement_cache_size=0)
    return create_async_engine(url, connect_args=args)
""",
        ),
        Invalid(
            """\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"ssl": ssl._create_unverified_context()}
)
""",
            because="verifies no certificate",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        import libcst as cst

        from session_guard.engine.facts import engine_of

        if isinstance(node, cst.Assign):
            said = _weakness_of_context(node, module)
            if said is not None:
                yield Violation(node, said, _HELP)
            return
        assert isinstance(node, cst.Call)
        engine = engine_of(node, module)
        if engine is not None and engine.is_on_asyncpg:
            yield from _engine(engine, module)


_HELP = (
    "use `ssl.create_default_context(cafile=…)` with the authority of the server's certificate; "
    "not fixed: which one that is, is not in the code"
)


def _engine(engine: Engine, module: Module) -> Iterator[Violation]:
    from session_guard.engine.connect_args import node_of
    from session_guard.names.values import External, Literal, Result

    where = node_of(engine.connect_args, "ssl", module) or engine.call
    found = engine.connect_args.values("ssl") or ()
    if engine.url.query.get("ssl") == "require" or found == (Literal("require"),):
        if engine.url.host not in ("localhost", "127.0.0.1", "::1"):
            message = '`ssl="require"` encrypts and verifies nothing: anyone can answer'
            yield Violation(where, message, _HELP)
    elif (
        len(found) == 1
        and isinstance(found[0], Result)
        and found[0].function == External("ssl._create_unverified_context")
    ):
        message = "this context verifies no certificate: anyone can answer for the database"
        yield Violation(where, message, _HELP)


def _weakness_of_context(node: cst.Assign, module: Module) -> str | None:
    """Return what an assignment to an engine's TLS context switches off for good, or None."""
    import libcst as cst

    from session_guard.names.values import External, Literal

    target = node.targets[0].target
    if not isinstance(target, cst.Attribute):
        return None
    value = module.evaluate(node.value)
    if target.attr.value == "verify_mode":
        if value not in ((External("ssl.CERT_NONE"),), (External("ssl.VerifyMode.CERT_NONE"),)):
            return None
        said = "this context verifies no certificate: anyone can answer for the database"
    elif target.attr.value == "check_hostname" and value == (Literal(False),):
        if "CERT_NONE" in module.text:
            return None  # which is then what is reported
        said = "this context verifies no host name: any certificate will do"
    else:
        return None
    return said if _is_for_an_engine(target.value, node, module) else None


def _is_for_an_engine(context: cst.BaseExpression, node: cst.Assign, module: Module) -> bool:
    """Return whether an engine of this file has this context for sure, as changed by `node`."""
    import libcst as cst

    from session_guard.engine.facts import engine_of
    from session_guard.names.values import Result

    place = module.place(node)
    made = [
        value
        for value in module.evaluate(context)
        if isinstance(value, Result) and value.place.branches == place.branches
    ]
    if len(made) != 1:
        return False
    for call in module.nodes("Call"):
        assert isinstance(call, cst.Call)
        engine = engine_of(call, module)
        if engine is not None and engine.is_on_asyncpg:
            found = engine.connect_args.values("ssl") or ()
            if (
                len(found) == 1
                and isinstance(found[0], Result)
                and found[0].is_of_the_same_call(made[0])
            ):
                return True
    return False
