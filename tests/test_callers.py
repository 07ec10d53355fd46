"""Which of the handler's context managers a function gets: by who runs it, as the project tells."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from session_guard.config import Settings
from session_guard.fixer import fix
from session_guard.linter import lint
from session_guard.project.project import Project
from session_guard.registry import load_rules

RULES = tuple(rule for rule in load_rules() if rule.code in ("SG101", "SG103", "SG303"))
STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
PASSED_ON = """

@asynccontextmanager
async def get_session():
    '''For requests.'''
    async with get_background_session() as session:
        yield session
"""
IN_FULL = """

@asynccontextmanager
async def get_session():
    async with background_task_session_factory() as session:
        yield session
        await session.commit()
"""
HEADER = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import background_task_session_factory as Sessions, engine
from app.models import User

"""
DEPENDENCY = """\
async def get_db():
    async with AsyncSession(engine) as session:
        yield session
"""
COMMITS = """\
async def get_db():
    async with Sessions() as session:
        yield session
        await session.commit()
"""


def project(tmp_path: Path, files: dict[str, str], handler: str = STANDARD + PASSED_ON) -> Project:
    for name, text in {"db": handler, **files}.items():
        path = tmp_path / "app" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return Project(Settings(root=tmp_path))


def written(of: Project, code: str) -> tuple[Path, bytes]:
    path = of.settings.root / "app" / "deps.py"
    data = (HEADER + code).encode()
    path.write_bytes(data)
    return path, data


def verdict(of: Project, code: str) -> tuple[str, str]:
    """Return how sure the fix of the one session is that a file opens, and what is said of it."""
    path, data = written(of, code)
    rules = [rule for rule in RULES if rule.code != "SG303"]
    [finding] = lint("deps.py", path, data, of, rules)
    return (finding.fix.applicability.value if finding.fix else "none"), finding.help


def fixed(of: Project, code: str) -> str:
    path, data = written(of, code)
    return fix("deps.py", path, data, of, RULES, unsafe=True).data.decode()


DEPENDS = {
    "in its own file": ("", "from fastapi import Depends\ndef f(db=Depends(get_db)): ...\n"),
    "of a parameter, elsewhere": (
        "from fastapi import Depends\nfrom app.deps import get_db\n"
        "def f(db=Depends(get_db)): ...\n",
        "",
    ),
    "of its module": (
        "import fastapi\nfrom app import deps\ndef f(db=fastapi.Depends(deps.get_db)): ...\n",
        "",
    ),
    "by other names": (
        "from fastapi import Depends as Needs\nfrom app.deps import get_db as give\n"
        "def f(db=Needs(give, scope='function')): ...\n",
        "",
    ),
    "in a type": (
        "from typing import Annotated\nfrom fastapi import Depends\nfrom app.deps import get_db\n"
        "Db = Annotated[object, Depends(get_db)]\n",
        "",
    ),
    "of a router": (
        "from fastapi import APIRouter, Depends\nfrom app.deps import get_db\n"
        "router = APIRouter(dependencies=[Depends(dependency=get_db)])\n",
        "",
    ),
    "of Litestar": (
        "from litestar import Litestar\nfrom litestar.di import Provide\n"
        "from app.deps import get_db\napp = Litestar(dependencies={'db': Provide(get_db)})\n",
        "",
    ),
    "of a method": (
        "from fastapi import Depends\nfrom app.deps import get_db\n"
        "class Service:\n    def __init__(self, db=Depends(get_db)):\n        self.db = db\n",
        "",
    ),
}


@pytest.mark.parametrize(("elsewhere", "here"), DEPENDS.values(), ids=DEPENDS.keys())
def test_a_dependency_of_requests_gets_get_session(
    elsewhere: str, here: str, tmp_path: Path
) -> None:
    of = project(tmp_path, {"routes": elsewhere})
    level, message = verdict(of, DEPENDENCY + here)
    assert level == "unsafe"
    assert "open it with `async with get_session() as session:`; not safe, since" in message
    for reason in (
        "who gets the session may rely on autoflush, which would end (line 8)",
        "who gets the session may rely on what expires on commit (line 8)",
        "who gets the session may leave changes (line 8), and nothing commits that",
    ):
        assert reason in message
    assert "    async with get_session() as session:\n        yield session\n" in fixed(
        of, DEPENDENCY + here
    )


ROUTES = DEPENDS["of a parameter, elsewhere"][0]
SAFE = {
    "commits in the with": COMMITS,
    "commits in a try": """\
async def get_db():
    async with Sessions() as session:
        try:
            yield session
            await session.commit()
        except Exception:
            await session.rollback()
            raise
        finally:
            await session.close()
""",
    "commits and is closed by hand": """\
async def get_db():
    session = Sessions()
    try:
        yield session
        await session.commit()
    except Exception:
        await session.rollback()
        raise
    finally:
        await session.close()
""",
    "commits in an else": """\
async def get_db():
    session = Sessions()
    try:
        yield session
    except BaseException:
        await session.rollback()
        raise
    else:
        await session.commit()
    finally:
        await session.close()
""",
    "begins": """\
async def get_db():
    async with Sessions.begin() as session:
        yield session
""",
}


@pytest.mark.parametrize("code", SAFE.values(), ids=SAFE.keys())
def test_a_dependency_that_commits_with_the_handlers_options_is_safe(
    code: str, tmp_path: Path
) -> None:
    of = project(tmp_path, {"routes": ROUTES})
    assert verdict(of, code) == ("safe", "open it with `async with get_session() as session:`")
    assert fixed(of, code).endswith(
        "\n\nasync def get_db():\n    async with get_session() as session:\n        yield session\n"
    )


KEPT = {
    "a try that logs": (
        """\
async def get_db():
    async with Sessions() as session:
        try:
            yield session
        except Exception:
            print("rolled back")
            raise
        finally:
            await session.close()
""",
        """\
async def get_db():
    async with get_session() as session:
        try:
            yield session
        except Exception:
            print("rolled back")
            raise
""",
    ),
    "comments of the try": (
        """\
async def get_db():
    async with Sessions() as session:
        try:  # the request
            yield session
        finally:
            # in any case
            await session.close()
""",
        """\
async def get_db():
    async with get_session() as session:
        try:  # the request
            yield session
        finally:
            # in any case
            await session.close()
""",
    ),
    "several items": (
        """\
async def get_db(lock):
    async with Sessions() as session, lock:
        try:
            yield session
        finally:
            await session.close()
""",
        """\
async def get_db(lock):
    async with get_session() as session, lock:
        try:
            yield session
        finally:
            await session.close()
""",
    ),
}


@pytest.mark.parametrize(("before", "after"), KEPT.values(), ids=KEPT.keys())
def test_what_is_more_than_a_close_stays(before: str, after: str, tmp_path: Path) -> None:
    of = project(tmp_path, {"routes": ROUTES})
    assert verdict(of, before)[0] == "unsafe"
    assert fixed(of, before).endswith(f"\n\n{after}")


NOT_COMMITTED = {
    "on a condition": (
        "async def get_db(commit=True):\n    async with Sessions() as session:\n"
        "        yield session\n        if commit:\n            await session.commit()\n",
        "who gets the session may leave changes",
    ),
    "where an error was swallowed": (
        "async def get_db():\n    async with Sessions() as session:\n        try:\n"
        "            yield session\n            await session.commit()\n"
        "        except ValueError:\n            await session.rollback()\n",
        "catches errors of the session and goes on",
    ),
    "of something else": (
        "async def get_db():\n    async with Sessions() as session:\n"
        "        yield Repository(session)\n        await session.commit()\n",
        "it yields inside the block",
    ),
    "with other options": (
        COMMITS.replace("Sessions()", "AsyncSession(engine, autoflush=False)"),
        "who gets the session may rely on what expires on commit",
    ),
}


@pytest.mark.parametrize(("code", "reason"), NOT_COMMITTED.values(), ids=NOT_COMMITTED.keys())
def test_a_dependency_that_may_differ_is_unsafe(code: str, reason: str, tmp_path: Path) -> None:
    level, message = verdict(project(tmp_path, {"routes": ROUTES}), code)
    assert level == "unsafe"
    assert reason in message


NO_DEPENDENCY = {
    "nobody depends on it": (COMMITS, ""),
    "another of the name": (COMMITS, ROUTES.replace("app.deps", "app.other")),
    "another function's Depends": (
        COMMITS,
        ROUTES.replace("fastapi", "app.tools"),
    ),
    "a context manager": (
        "from contextlib import asynccontextmanager\n\n\n@asynccontextmanager\n" + COMMITS,
        ROUTES,
    ),
    "a method": ("class Db:\n" + textwrap.indent(COMMITS, "    "), ROUTES),
    "a method called like one": (
        "async def get_db():\n    return None\n\n\nclass Db:\n" + textwrap.indent(COMMITS, "    "),
        ROUTES,
    ),
    "an inner function": ("def make():\n" + textwrap.indent(COMMITS, "    "), ROUTES),
}


@pytest.mark.parametrize(("code", "routes"), NO_DEPENDENCY.values(), ids=NO_DEPENDENCY.keys())
def test_a_generator_of_unknown_use_is_not_fixed(code: str, routes: str, tmp_path: Path) -> None:
    of = project(tmp_path, {"routes": routes, "other": COMMITS})
    level, message = verdict(of, code)
    assert level == "none"
    assert "nothing in the project tells a framework to run its function for a parameter" in message
    assert fixed(of, code) == HEADER + code


def test_a_dependency_of_tasks_gets_get_background_session(tmp_path: Path) -> None:
    of = project(tmp_path, {"routes": ROUTES.replace("fastapi", "taskiq").replace("D", "TaskiqD")})
    assert verdict(of, COMMITS)[0] == "safe"
    assert "async with get_background_session() as session:" in fixed(of, COMMITS)


def test_a_name_that_is_taken_is_not_hidden(tmp_path: Path) -> None:
    of = project(tmp_path, {"routes": ROUTES.replace("get_db", "get_session")})
    code = COMMITS.replace("get_db", "get_session")
    assert verdict(of, code)[0] == "safe"
    text = fixed(of, code)
    assert "get_session as get_request_session\n" in text
    assert "def get_session():\n    async with get_request_session() as session:\n" in text
    level, message = verdict(of, f"{code}get_request_session = 1\n")
    assert level == "none"
    assert "the file has another `get_session`" in message


HANDLERS = {
    "that passes on": (STANDARD + PASSED_ON, "safe", ""),
    "in full": (STANDARD + IN_FULL, "safe", ""),
    "that a decorator replaces": (
        STANDARD + PASSED_ON.replace("@async", "@dry_run\n@async"),
        "unsafe",
        "`get_session()` of app.db has a decorator that may replace what it does",
    ),
    "that passes on what a decorator replaces": (
        STANDARD.replace("@async", "@dry_run\n@async") + PASSED_ON,
        "unsafe",
        "has a decorator that may replace what it does",
    ),
    "that does not commit": (
        STANDARD + IN_FULL.replace("await session.commit()", "pass"),
        "unsafe",
        "`get_session()` of app.db does not commit",
    ),
    "that passes on what falls short": (
        STANDARD.replace("await session.commit()", "pass") + PASSED_ON,
        "unsafe",
        "`get_session()` of app.db does not commit",
    ),
    "that is a plain generator": (
        STANDARD + PASSED_ON.replace("@asynccontextmanager\n", ""),
        "none",
        "app.db has no `get_session()` that an `async with` can enter",
    ),
    "that needs an argument": (
        STANDARD + PASSED_ON.replace("get_session():", "get_session(request):"),
        "none",
        "app.db has no `get_session()` that an `async with` can enter",
    ),
    "that is missing": (
        STANDARD,
        "none",
        "app.db has no `get_session()` that an `async with` can enter",
    ),
    "on another engine": (
        STANDARD
        + IN_FULL.replace(
            "background_task_session_factory()",
            "async_sessionmaker(create_async_engine('postgresql+asyncpg://b'))()",
        ),
        "none",
        "its engine is another than the handler's",
    ),
}


@pytest.mark.parametrize(("handler", "level", "reason"), HANDLERS.values(), ids=HANDLERS.keys())
def test_what_get_session_does_counts(
    handler: str, level: str, reason: str, tmp_path: Path
) -> None:
    got = verdict(project(tmp_path, {"routes": ROUTES}, handler), COMMITS)
    assert got[0] == level, got
    assert reason in got[1]


ENDPOINT = """\
from fastapi import APIRouter

router = APIRouter()


@router.post("/users")
async def create(name: str):
    session = Sessions()
    try:
        session.add(User(name=name))
        await session.commit()
    finally:
        await session.close()
"""


def test_an_endpoint_gets_get_session_and_keeps_its_commit(tmp_path: Path) -> None:
    of = project(tmp_path, {})
    assert verdict(of, ENDPOINT)[0] == "safe"
    assert fixed(of, ENDPOINT).endswith(
        "async def create(name: str):\n    async with get_session() as session:\n"
        "        session.add(User(name=name))\n        await session.commit()\n"
    )


@pytest.mark.parametrize(
    "registration",
    [
        "register = router.post\n",
        "def register(path):\n    return router.post(path, tags=['users'])\n",
        "def post(path):\n    return router.post(path)\n\n\nregister = post\n",
    ],
)
def test_a_route_by_a_name_of_the_project_is_one(registration: str, tmp_path: Path) -> None:
    code = ENDPOINT.replace("router.post(", "register(").replace(
        "\n\n\n@", f"\n{registration}\n\n@"
    )
    assert "@register(" in code
    after = fixed(project(tmp_path, {}), code)
    assert "async with get_session() as session:" in after
    assert "await session.commit()" in after


def test_an_endpoint_without_get_session_is_unsafe(tmp_path: Path) -> None:
    level, message = verdict(project(tmp_path, {}, STANDARD), ENDPOINT)
    assert level == "unsafe"
    assert "it stands in a request handler, which uses `get_session()`" in message


TASKS = {
    "Celery": ("from celery import shared_task", "@shared_task(bind=True)"),
    "Celery's app": ("from app.worker import app", "@app.task"),
    "taskiq": ("from app.worker import broker", "@broker.task(schedule=[])"),
    "dramatiq": ("import dramatiq", "@dramatiq.actor(max_retries=3)"),
    "APScheduler": ("from app.worker import scheduler", "@scheduler.scheduled_job('cron')"),
    "a decorator of its own": (
        "def retried(times):\n    def wrap(f):\n        return f\n    return wrap",
        "@retried(3)",
    ),
    "a test's patch": ("from unittest.mock import patch", "@patch('app.jobs.send')"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("imports", "decorator"), TASKS.values(), ids=TASKS.keys())
def test_other_functions_get_get_background_session(
    imports: str, decorator: str, tmp_path: Path
) -> None:
    code = (
        f"{imports}\n\n\n{decorator}\nasync def job(ids):\n"
        "    async with Sessions() as session:\n        print(await session.get(User, 1))\n"
    )
    of = project(tmp_path, {})
    assert verdict(of, code)[0] == "safe"
    assert "async with get_background_session() as session:" in fixed(of, code)


REGISTERED = {
    "arq": "class WorkerSettings:\n    functions = [job]\n",
    "APScheduler": "scheduler.add_job(job, 'interval', hours=1)\n",
    "FastAPI": "async def f(tasks: BackgroundTasks):\n    tasks.add_task(job)\n",
}


@pytest.mark.parametrize("registration", REGISTERED.values(), ids=REGISTERED.keys())
def test_registered_tasks_get_get_background_session(registration: str, tmp_path: Path) -> None:
    code = (
        "from fastapi import BackgroundTasks\nfrom app.worker import scheduler\n\n"
        "async def job():\n    async with Sessions() as session:\n"
        f"        print(await session.get(User, 1))\n\n{registration}"
    )
    of = project(tmp_path, {})
    assert verdict(of, code)[0] == "safe"
    assert "async with get_background_session() as session:" in fixed(of, code)


COMMITTING = """\
from app.db import get_background_session

async def add(request):
    async with get_background_session() as session:
        session.add(User())
        await session.commit()

"""
REGISTERED = {
    "FastAPI": "from fastapi import APIRouter\nAPIRouter().add_api_route('/', add)\n",
    "FastAPI, by its name": "router.add_api_route(path='/', endpoint=add)\n",
    "FastAPI, without a decorator's sign": "router.post('/users')(add)\n",
    "FastAPI's class": "from fastapi.routing import APIRoute\nroutes = [APIRoute('/', add)]\n",
    "Starlette": "from starlette.routing import Route\nroutes = [Route('/', endpoint=add)]\n",
    "Starlette's application": "app.add_route('/', add)\n",
    "aiohttp": "from aiohttp import web\napp.add_routes([web.post('/', add)])\n",
    "aiohttp's router": "app.router.add_post('/', add)\n",
    "with arguments": "import functools\napp.add_route('/', functools.partial(add, None))\n",
}


@pytest.mark.parametrize("code", REGISTERED.values(), ids=REGISTERED.keys())
@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_endpoint_that_is_registered_keeps_its_commit(
    code: str, elsewhere: bool, tmp_path: Path
) -> None:
    routes = f"from app.deps import add\n{code}" if elsewhere else ""
    of = project(tmp_path, {"routes": routes})
    path, data = written(of, COMMITTING + ("" if elsewhere else code))
    assert lint("deps.py", path, data, of, RULES) == []


METHODS = {
    "Starlette": """\
from starlette.endpoints import HTTPEndpoint

class Users(HTTPEndpoint):
    async def post(self, request):
""",
    "strawberry": """\
import strawberry

@strawberry.type
class Mutation:
    @strawberry.mutation
    async def post(self):
""",
    "strawberry, with arguments": """\
from strawberry import mutation

class Mutation:
    @mutation(description="adds one")
    async def post(self):
""",
    "a class with a router": """\
class Users:
    def __init__(self):
        self.router = APIRouter()
        self.router.add_api_route("/", self.post)

    async def post(self):
""",
}


@pytest.mark.parametrize("head", METHODS.values(), ids=METHODS.keys())
def test_an_endpoint_that_is_a_method_keeps_its_commit(head: str, tmp_path: Path) -> None:
    of = project(tmp_path, {})
    body = textwrap.indent(COMMITTING.split("(request):\n")[1], "    ")
    code = f"from app.db import get_background_session\n{head}{body}"
    path, data = written(of, code)
    assert lint("deps.py", path, data, of, RULES) == []
    opened = verdict(of, code.replace("get_background_session()", "Sessions()"))
    assert "get_session()" in opened[1]


NO_ENDPOINTS = {
    "another function": "app.add_route('/', other)\n",
    "a job": "scheduler.add_job(add)\n",
    "of another module": "from app.other import add as other\napp.add_route('/', other)\n",
    "a dictionary": "registry.get(add)\n",
    "dependencies of another kind": (
        "from celery import Celery\nCelery(dependencies={'a': add})\nclass C:\n    guards = [add]\n"
    ),
    "a class of its own": "class Route:\n    pass\nRoute('/', add)\n",
}


@pytest.mark.parametrize("code", NO_ENDPOINTS.values(), ids=NO_ENDPOINTS.keys())
def test_what_is_handed_to_others_is_no_endpoint(code: str, tmp_path: Path) -> None:
    of = project(tmp_path, {"other": "async def add(): ...\n"})
    path, data = written(of, f"{COMMITTING}\n{code}")
    assert [item.code for item in lint("deps.py", path, data, of, RULES)] == ["SG303"]


WRITES = """\
    async with Sessions() as session:
        session.add(User())
        await session.commit()
"""


def function(parameters: str = "request") -> str:
    return f"async def add({parameters}):\n{WRITES}\n"


def method(name: str, parameters: str = "self", head: str = "class C:") -> str:
    body = textwrap.indent(f"async def {name}({parameters}):\n{WRITES}", "    ")
    return f"{head}\n{body}\n"


ADD = function()
RUN_FOR_REQUESTS = {
    "items of a dictionary": ADD + "for p, f in {'/': add}.items():\n    app.add_route(p, f)\n",
    "values of a dictionary": (
        ADD + "ROUTES = {'/': add}\nfor f in ROUTES.values():\n    app.add_route('/', f)\n"
    ),
    "keys of a dictionary": (
        ADD + "ROUTES = {'/': add}\nfor p in ROUTES:\n    app.add_route(p, ROUTES[p])\n"
    ),
    "what was put into a dictionary": (
        ADD + "ROUTES = {}\nROUTES['/'] = add\n"
        "def setup(app):\n    for p, f in ROUTES.items():\n        app.add_route(p, f)\n"
    ),
    "a tuple": ADD + "for f in (add, str):\n    router.get('/')(f)\n",
    "a list of pairs": ADD + "for p, f in [('/', add)]:\n    router.get(p)(f)\n",
    "what was appended": (
        ADD + "ROUTES = []\nROUTES.append(('/', add))\nfor p, f in ROUTES:\n    router.get(p)(f)\n"
    ),
    "numbered": ADD + "for i, f in enumerate([add]):\n    router.get(f'/{i}')(f)\n",
    "zipped": ADD + "for p, f in zip(['/'], list((add,))):\n    router.get(p)(f)\n",
    "a comprehension": (
        ADD + "from starlette.routing import Route\n"
        "routes = [Route(p, f) for p, f in [('/', add)]]\n"
    ),
    "a dependency that returns": (
        "from fastapi import Depends\n" + function("") + "def f(user=Depends(add)): ...\n"
    ),
    "an object that is a dependency": (
        "from fastapi import Depends\n" + method("__call__") + "def f(user=Depends(C())): ...\n"
    ),
    "an object with a name": (
        "from fastapi import Depends\n"
        + method("__call__")
        + "one = C()\ndef f(user=Depends(one)): ...\n"
    ),
    "an object that is an endpoint": method("__call__") + "app.add_api_route('/', C())\n",
    "a method that is a dependency": (
        "from fastapi import Depends\n"
        + method("current")
        + "one = C()\ndef f(user=Depends(one.current)): ...\n"
    ),
    "a method of what a call makes": (
        "from fastapi import Depends\n"
        + method("current")
        + "def f(user=Depends(C().current)): ...\n"
    ),
    "a method of an attribute": (
        "from fastapi import Depends\n"
        + method("current")
        + "class Api:\n    def __init__(self):\n        self.c = C()\n"
        "    def setup(self):\n        def f(user=Depends(self.c.current)): ...\n"
    ),
    "a middleware": "@app.middleware('http')\n" + function("request, call_next"),
    "an error's handler": "@app.exception_handler(ValueError)\n" + function("request, error"),
    "a middleware's class": method("__call__", "self, s, r, t") + "app.add_middleware(C)\n",
    "Starlette's middleware": (
        "from starlette.middleware import Middleware\n"
        + method("__call__", "self, s, r, t")
        + "MIDDLEWARE = [Middleware(C)]\n"
    ),
    "a class of Starlette's middleware": (
        "from starlette.middleware.base import BaseHTTPMiddleware\n"
        + method("dispatch", "self, request, call_next", "class C(BaseHTTPMiddleware):")
    ),
    "ASGI": method("__call__", "self, scope, receive, send"),
    "aiohttp's middleware": "from aiohttp import web\n@web.middleware\n" + ADD,
    "aiohttp's middlewares": (
        "from aiohttp import web\n" + ADD + "app = web.Application(middlewares=[add])\n"
    ),
    "a route by another name": (
        "from litestar import get as show\n" + ADD.replace("async def", "@show('/')\nasync def", 1)
    ),
    "Litestar's guards": "from litestar import Litestar\n" + ADD + "app = Litestar(guards=[add])\n",
    "guards of a route": (
        "from litestar import get\n" + ADD + "@get('/', guards=[add])\nasync def show(): ...\n"
    ),
    "a guard that a function makes": (
        "from litestar import get\ndef needs(role):\n"
        + textwrap.indent(ADD, "    ")
        + "    return add\n@get('/', guards=[needs('admin')])\nasync def show(): ...\n"
    ),
    "before a request": "from litestar import Router\n" + ADD + "Router('/', before_request=add)\n",
    "after a request": "from litestar import Router\n" + ADD + "Router('/', after_request=add)\n",
    "Litestar's dependencies without Provide": (
        "from litestar import Litestar\n" + ADD + "app = Litestar(dependencies={'user': add})\n"
    ),
    "Litestar's dependencies by a name": (
        "import litestar\n" + ADD + "GIVEN = {'user': add}\n"
        "@litestar.post('/', dependencies=GIVEN)\nasync def show(): ...\n"
    ),
    "who looks a token's user up": (
        "from litestar.security.jwt import OAuth2PasswordBearerAuth as Auth\n"
        + ADD
        + "auth = Auth[User](retrieve_user_handler=add, token_secret='')\n"
    ),
    "a controller's guards": (
        "from litestar import Controller\n" + ADD + "class C(Controller):\n    guards = [add]\n"
    ),
    "a controller's dependencies": (
        "from litestar.controller import Controller\n"
        + ADD
        + "class B(Controller): ...\nclass C(B):\n    dependencies = {'user': add}\n"
    ),
    "a controller's hook": (
        "from litestar import Controller\n"
        + ADD
        + "class C(Controller):\n    before_request = add\n"
    ),
    "a function of a controller": (
        "from litestar import Controller\n"
        + method("before_request", "request", "class C(Controller):")
    ),
    "a listener on a socket": (
        "from litestar import websocket_listener\n@websocket_listener('/')\n" + ADD
    ),
    "a class of a listener": (
        "from litestar.handlers import WebsocketListener\n"
        + method("on_receive", "self, data", "class C(WebsocketListener):")
    ),
    "Litestar's authentication": (
        "from litestar.middleware import AbstractAuthenticationMiddleware as Base\n"
        + method("authenticate_request", "self, connection", "class C(Base):")
    ),
    "a decorator with a name": "register = router.post('/')\n@register\n" + ADD,
    "a decorator with a name, called": ADD + "register = router.post('/')\nregister(add)\n",
    "a partial of a decorator": (
        "import functools\npost = functools.partial(router.post, tags=[])\n@post('/')\n" + ADD
    ),
    "a function that adds what it is given": (
        ADD + "def register(path, f):\n    app.add_api_route(path, f)\nregister('/', add)\n"
    ),
    "a decorator of its own": (
        "def route(path):\n    def decorate(f):\n        router.add_api_route(path, f)\n"
        "        return f\n    return decorate\n@route('/')\n" + ADD
    ),
    "a decorator that adds what it wraps": (
        "from functools import wraps\ndef route(f):\n    @wraps(f)\n"
        "    async def wrapper(*args):\n        return await f(*args)\n"
        "    router.add_api_route('/', wrapper)\n    return f\n@route\n" + ADD
    ),
    "a decorator that decorates what it wraps": (
        "def route(f):\n    @router.post('/')\n    async def wrapper(*args):\n"
        "        return await f(*args)\n    return wrapper\n@route\n" + ADD
    ),
    "a decorator that is an object": (
        "class route:\n    def __init__(self, path):\n        self.path = path\n"
        "    def __call__(self, f):\n        router.add_api_route(self.path, f)\n"
        "        return f\n@route('/')\n" + ADD
    ),
    "a lambda": "route = lambda f: router.post('/')(f)\n@route\n" + ADD,
}


@pytest.mark.parametrize("code", RUN_FOR_REQUESTS.values(), ids=RUN_FOR_REQUESTS.keys())
def test_what_runs_for_requests_gets_get_session_and_keeps_its_commit(
    code: str, tmp_path: Path
) -> None:
    of = project(tmp_path, {})
    assert verdict(of, code) == ("safe", "open it with `async with get_session() as session:`")
    after = fixed(of, code)
    assert "async with get_session() as session:" in after
    assert "await session.commit()" in after


ELSEWHERE = {
    "a loop over another module's list": (
        ADD.replace("def add", "def create") + "ROUTES = [('/', create)]\n",
        "from fastapi import FastAPI\nfrom app.deps import ROUTES\napp = FastAPI()\n"
        "for p, f in ROUTES:\n    app.add_api_route(p, f)\n",
    ),
    "another module's decorator": (
        "from app.routes import route\n@route('/')\n" + ADD,
        "def route(path):\n    def decorate(f):\n        router.add_api_route(path, f)\n"
        "        return f\n    return decorate\n",
    ),
    "another module's name for a decorator": (
        "from app.routes import register\n@register\n" + ADD,
        "register = router.post('/')\n",
    ),
    "a function of a third module": (
        ADD,
        "import fastapi\nfrom app.deps import add\nfrom app.other import register\n"
        "register('/', add)\n",
    ),
    "another module's controller": (
        ADD,
        "from litestar import Controller\nfrom app.deps import add\n"
        "class C(Controller):\n    guards = [add]\n",
    ),
    "a function that hands guards on": (
        ADD,
        "from litestar import Litestar\nfrom app.deps import add\n"
        "def make(guard):\n    return Litestar(guards=[guard])\napp = make(add)\n",
    ),
    "an object by another name": (
        method("__call__") + "one = C()\n",
        "from fastapi import Depends\nfrom app.deps import one\ndef f(user=Depends(one)): ...\n",
    ),
}


@pytest.mark.parametrize(("code", "routes"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_what_another_module_has_run_for_requests(code: str, routes: str, tmp_path: Path) -> None:
    other = "def register(path, f):\n    app.add_api_route(path, f)\n"
    of = project(tmp_path, {"routes": routes, "other": other})
    written(of, code)
    assert verdict(of, code) == ("safe", "open it with `async with get_session() as session:`")


def test_a_method_that_yields_may_be_a_dependency(tmp_path: Path) -> None:
    code = (
        "from fastapi import Depends\nclass Db:\n"
        + textwrap.indent(COMMITS, "    ")
        + "db = Db()\ndef f(session=Depends(db.get_db)): ...\n"
    )
    of = project(tmp_path, {})
    assert verdict(of, code) == ("safe", "open it with `async with get_session() as session:`")
    assert "await session.commit()" not in fixed(of, code)


NOT_KNOWN = {
    "a decorator of an unknown package": (
        "from corp import endpoint\n@endpoint('/')\n" + ADD,
        "`@endpoint('***')` may have a web framework run it for requests",
    ),
    "an attribute of one": (
        "import corp\n@corp.endpoint\n" + ADD,
        "`@corp.endpoint` may have a web framework run it for requests",
    ),
    "a decorator that keeps what it is given": (
        "FOUND = []\ndef register(f):\n    FOUND.append(f)\n    return f\n@register\n" + ADD,
        "`@register` may have a web framework run it for requests",
    ),
    "a decorator with a dictionary": (
        "FOUND = {}\ndef register(name):\n    def decorate(f):\n        FOUND[name] = f\n"
        "        return f\n    return decorate\n@register('a')\n" + ADD,
        "`@register('***')` may have a web framework run it for requests",
    ),
    "a decorator with an object": (
        "class Found:\n    def __init__(self, f):\n        self.f = f\n@Found\n" + ADD,
        "`@Found` may have a web framework run it for requests",
    ),
    "a decorator that hands on": (
        "from corp import endpoint\ndef register(f):\n    return endpoint(f)\n@register\n" + ADD,
        "`@register` may have a web framework run it for requests",
    ),
    "a method of an unknown object": (
        "from fastapi import Depends\n"
        + method("current")
        + "def setup(c):\n    def f(user=Depends(c.current)): ...\n",
        "a web framework is told to run a `current()` of an object that is not known",
    ),
    "an endpoint of an unknown object": (
        method("create") + "def setup(c):\n    app.add_api_route('/', c.create)\n",
        "a web framework is told to run a `create()` of an object that is not known",
    ),
}


@pytest.mark.parametrize(("code", "reason"), NOT_KNOWN.values(), ids=NOT_KNOWN.keys())
def test_a_function_that_may_run_for_requests_is_unsafe(
    code: str, reason: str, tmp_path: Path
) -> None:
    of = project(tmp_path, {})
    level, message = verdict(of, code)
    assert level == "unsafe"
    assert f"{reason}, for which it would use `get_session()`" in message
    after = fixed(of, code)
    assert "async with get_background_session() as session:" in after
    assert "await session.commit()" in after


WRAPPER = """\
    @functools.wraps(f)
    async def wrapper(*args):
        logging.info("%s", f.__name__)
        return await f(*args)
    wrapper.wrapped = f
    return wrapper
"""
WRAPPED = {
    "a wrapper": f"def timed(f):\n{WRAPPER}@timed\n",
    "a wrapper with arguments": (
        f"def timed(name):\n    def decorate(f):\n{textwrap.indent(WRAPPER, '    ')}"
        "    return decorate\n@timed('a')\n"
    ),
    "a wrapper with or without arguments": (
        f"def timed(g=None, *, name=''):\n    def decorate(f):\n"
        f"{textwrap.indent(WRAPPER, '    ')}"
        "    return decorate if g is None else decorate(g)\n@timed\n@timed(name='a')\n"
    ),
    "a context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef timed():\n    yield\n@timed()\n"
    ),
    "an object": f"class Timed:\n    def __call__(self, f):\n"
    f"{textwrap.indent(WRAPPER, '    ')}@Timed()\n",
    "tenacity": "from tenacity import retry, stop_after_attempt\n"
    "@retry(stop=stop_after_attempt(3))\n",
    "click": "import click\n@click.command()\n@click.option('--request')\n",
    "typer": "import typer\ncli = typer.Typer()\n@cli.command()\n",
    "Celery": "from celery import Celery\napp = Celery()\n@app.task\n",
    "arq": "from arq import cron, func\n",
    "aiogram": "from aiogram import Router\nrouter = Router()\n@router.message()\n",
    "a lambda": "timed = lambda f: f\n@timed\n",
    "the application's start": "@app.on_event('startup')\n",
}


@pytest.mark.parametrize("head", WRAPPED.values(), ids=WRAPPED.keys())
def test_what_is_only_wrapped_or_run_otherwise_stays_safe(head: str, tmp_path: Path) -> None:
    of = project(tmp_path, {"main": "from fastapi import FastAPI\napp = FastAPI()\n"})
    code = f"import functools, logging\n{head}{ADD}"
    assert verdict(of, code)[0] == "safe"
    after = fixed(of, code)
    assert "async with get_background_session() as session:" in after
    assert "await session.commit()" not in after


def test_a_method_that_is_static_or_of_the_class_stays_safe(tmp_path: Path) -> None:
    for decorator, parameters in (("staticmethod", ""), ("classmethod", "cls"), ("property", "s")):
        code = method("job", parameters).replace(
            "    async def", f"    @{decorator}\n    async def"
        )
        assert verdict(project(tmp_path, {}), code)[0] == "safe"
