"""SG207: a connection to the database that is encrypted for whoever answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.engine.tls import Fault
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
- `verify_mode = ssl.CERT_NONE` checks nothing, and neither does `ssl.SSLContext()` as it comes;
  `check_hostname = False` takes any certificate that any authority gave to anyone.

Only what an asyncpg engine connects with is reported, not contexts for HTTP; they are followed to
the function or the module that makes them. An engine that verifies on one way and not on another is
none, which is for development mostly, and neither is one whose host is known to be this machine.
Where it is encrypted on one way alone, and verifies on none, it is reported."""
    fix_safety = """\
There is no fix: which authority signed the server's certificate is not in the code. Supabase and
others sign with their own; give its file to `ssl.create_default_context(cafile=...)`."""
    since = "0.1.0"
    references = (
        "https://magicstack.github.io/asyncpg/current/api/index.html#connection",
        "https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"create_async_engine",)
    project_names = True
    in_handler = True
    subject = Subject.MAKERS
    node_types = ("Call",)

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
        Valid("""\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine

CONTEXT = ssl.create_default_context(cafile="ca.pem")
engine = create_async_engine(
    "postgresql+asyncpg://db/app?ssl=require", connect_args={"ssl": CONTEXT}
)
"""),
        Valid("""\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

connect_args = {}
if settings.ssl_mode == "require":
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connect_args["ssl"] = context
elif settings.ssl_mode:
    connect_args["ssl"] = settings.ssl_mode
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=connect_args)
"""),
        Valid("""\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

context = ssl.create_default_context()
context.check_hostname = settings.check_hostname
context.verify_mode = ssl.CERT_NONE if settings.is_development else ssl.CERT_REQUIRED
again = ssl._create_unverified_context()
again.verify_mode = ssl.CERT_REQUIRED
again.check_hostname = True
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": context})
other = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": again})
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

connect_args = {"ssl": "require", **settings.connect_args}
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=connect_args)
other = create_async_engine(f"postgresql+asyncpg://db/app?ssl={settings.ssl_mode}")
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
        Invalid(
            """\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

if settings.development:
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
else:
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE  # Supabase's own authority
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": ctx})
""",
            count=2,
        ),
        Invalid(
            """\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

connect_args = {}
if settings.environment == "production":
    ctx = ssl.create_default_context()
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    connect_args["ssl"] = ctx
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=connect_args)
reader = create_async_engine("postgresql+asyncpg://reader/app", connect_args=connect_args)
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"ssl": "require"} if settings.is_production else {}
)
""",
            because='`ssl="require"` encrypts and verifies nothing',
        ),
        Invalid(
            """\
import ssl
import aiohttp
from sqlalchemy.ext.asyncio import create_async_engine

# CERT_NONE would be worse
http = ssl.create_default_context()
http.check_hostname = False
http.verify_mode = ssl.CERT_NONE
connector = aiohttp.TCPConnector(ssl=http)

ctx = ssl.create_default_context(cafile="ca.pem")
ctx.check_hostname = False
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": ctx})
""",
            because="verifies no host name",
        ),
        Invalid(
            """\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine

class Database:
    def __init__(self, url):
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.engine = create_async_engine(
            f"postgresql+asyncpg://{url}", connect_args={"ssl": self.context}
        )
""",
            because="verifies no certificate",
        ),
        Invalid(
            """\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS)}
)
""",
            because="verifies no certificate",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        assert isinstance(node, Call)
        for fault in _faults(node, module):
            if not any(fault.node is other.node for other in _earlier(node, module)):
                yield Violation(fault.node, fault.message, _HELP)


_HELP = (
    "use `ssl.create_default_context(cafile=…)` with the authority of the server's certificate; "
    "not fixed: which one that is, is not in the code"
)


def _faults(call: cst.Call, module: Module) -> list[Fault]:
    from session_guard.engine.facts import engine_of
    from session_guard.engine.tls import faults

    engine = engine_of(call, module)
    return faults(engine, module) if engine is not None and engine.is_on_asyncpg else []


def _earlier(call: cst.Call, module: Module) -> Iterator[Fault]:
    """Yield what is wrong with the engines before a call: they may share its context."""
    from libcst import Call

    for other in module.nodes("Call"):
        if other is call:
            return
        assert isinstance(other, Call)
        yield from _faults(other, module)
