"""A program before its fix and after, on a real database: the same rows, the same lines.

`SESSION_GUARD_EXAMPLES=2000` in the environment tries that many generated programs.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from .generated_programs import Program, programs
from .shop import HEADER, open_shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .servers import Postgres
    from .shop import Outcome, Shop

EXAMPLES = int(os.environ.get("SESSION_GUARD_EXAMPLES", "30"))


@pytest.fixture(scope="module")
def shop(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop"), postgres) as opened:
        yield opened


# --- generated programs


def test_a_safe_fix_changes_neither_rows_nor_lines(shop: Shop) -> None:
    count: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="SESSION_GUARD_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(programs())
    def compare(program: Program) -> None:
        count["generated"] += 1
        fixed = shop.fixed(program.text)
        if not any(finding.code in ("SG101", "SG103") for finding in fixed.applied):
            return
        count["called safe"] += 1
        before = shop.run(program.text, program.calls)
        if before.never_ran:
            return
        count["compared"] += 1
        after = shop.run(fixed.data.decode(), program.calls)
        assert after == before
        assert after.connections <= before.connections

    compare()
    print(dict(count))
    # Programs that are all unsafe, or all broken, would prove nothing.
    assert count["compared"] > count["generated"] / 4


# --- each point of a fix, by hand


def job(body: str, before: str = "") -> str:
    """Return a program whose one function is `body`."""
    return f"{HEADER}{before}async def job():\n{textwrap.indent(textwrap.dedent(body), '    ')}"


def outcomes(shop: Shop, program: str, *, unsafe: bool) -> tuple[Outcome, Outcome, str]:
    """Run a program as it is and as it is fixed, and give what was said of its sessions."""
    said = " ".join(finding.help for finding in shop.fixed(program).remaining)
    fixed = shop.fixed(program, unsafe=unsafe).data.decode()
    function = fixed[fixed.index("async def job") :]
    assert "get_background_session()" in function
    assert "AsyncSession(" not in function
    assert "PlainSession" not in function
    calls = (("job", ()),)
    return shop.run(program, calls), shop.run(fixed, calls), said


SAME = {
    "reads": """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 1)
        print(user.name, user.visits)
        """,
    "commits last": """\
        async with AsyncSession(engine) as s:
            s.add(Order(user_id=2, kind="desk"))
            await s.commit()
        """,
    "begins": """\
        async with AsyncSession(engine) as s, s.begin():
            user = await s.get(User, 1)
            user.visits += 1
        """,
    "a factory begins": """\
        async with PlainSession.begin() as s:
            await s.execute(delete(Order).where(Order.id == 1))
        """,
    "commits on every way out": """\
        for number in (1, 2, 3):
            async with PlainSession() as s:
                user = await s.get(User, number)
                user.visits += 1
                await s.commit()
                if number == 2:
                    break
        """,
    "flushes before a query": """\
        async with AsyncSession(engine) as s:
            s.add(Order(user_id=3, kind="desk"))
            await s.flush()
            print(await s.scalar(select(func.count()).select_from(Order)))
            await s.commit()
        """,
    "reads columns again after a commit": """\
        async with AsyncSession(engine) as s:
            for turn in range(3):
                print(await s.scalar(select(User.visits).where(User.id == 1)))
                await s.commit()
                await asyncio.sleep(0)
        """,
    "refreshes after a commit": """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 1)
            await s.commit()
            await asyncio.sleep(0)
            await s.refresh(user)
            print(user.name, user.visits)
        """,
    "polls without expiry": """\
        async with AsyncSession(engine, expire_on_commit=False) as s:
            for turn in range(3):
                print((await s.get(User, 1)).name)
                await s.commit()
                await asyncio.sleep(0)
        """,
    "exceptions as control flow": """\
        try:
            async with AsyncSession(engine) as s:
                s.add(Order(user_id=2, kind="desk"))
                await s.flush()
                raise Stop("enough")
        except Stop as stop:
            print(stop.what)
        """,
    "an error that is raised on": """\
        try:
            async with AsyncSession(engine) as s:
                try:
                    s.add(User(name="ada"))
                    await s.commit()
                except Exception:
                    await s.rollback()
                    raise
        except Exception as error:
            print(type(error).__name__)
        """,
    "a commit that fails on leaving": """\
        try:
            async with AsyncSession(engine) as s, s.begin():
                s.add(Order(user_id=99, kind="of nobody"))
        except Exception as error:
            print(type(error).__name__)
        """,
    "an error with a column's value": """\
        try:
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                raise Stop(user.name)
        except Stop as stop:
            print(stop.what)
        """,
    "made before the block, and used after an error": """\
        user = User(name="zoe")
        try:
            async with AsyncSession(engine) as s:
                s.add(user)
                await s.flush()
                raise Stop
        except Stop:
            print(user.name, user.id, user.visits)
        """,
    "a stream that is left": """\
        async with AsyncSession(engine) as s:
            async for row in await s.stream(select(User.id, User.name).order_by(User.id)):
                if row.id == 2:
                    return row.name
        """,
    "returns after an error, and uses what it loaded behind": """\
        try:
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
            print(user.name)
        except Stop:
            return None
        return user.visits
        """,
    "fails in a transaction that it began": """\
        try:
            async with PlainSession() as s, s.begin():
                user = await s.get(User, 1)
                raise Stop(user)
        except Stop:
            print(user is None)
        """,
    "looks into what was read anew": """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 1)
            user.visits = 11
            await s.commit()
            await s.refresh(user)
        print("name" in user.__dict__, "visits" in vars(user))
        """,
    "opened in the try that closes it": """\
        s = None
        try:
            s = AsyncSession(engine)
            s.add(Order(user_id=1, kind="tried"))
            await s.commit()
        finally:
            if s is not None:
                await s.close()
        """,
    "entered by its name": """\
        s = AsyncSession(engine)
        order = Order(user_id=1, kind="entered")
        async with s, s.begin():
            s.add(order)
        """,
    "makes a user, commits, and tells of it": """\
        async def post(*what):
            print(*what)
        async with PlainSession() as s:
            user = User(name="eve")
            s.add(user)
            await s.flush()
            number = user.id
            await s.commit()
            await post("/users", number)
        """,
    "imports in batches": """\
        async def post(*what):
            print(*what)
        rows = [{"name": f"row {number}"} for number in range(5)]
        async with PlainSession() as s:
            for number, row in enumerate(rows):
                s.add(User(name=row["name"], visits=number))
                if number % 2 == 0:
                    await s.commit()
                    await post(row)
            await s.commit()
        """,
    "goes on where a service fails": """\
        async def post(kind):
            if kind == "lamp":
                raise OSError(kind)
        async with PlainSession() as s:
            orders = (await s.scalars(select(Order).order_by(Order.id))).all()
            for order in orders:
                try:
                    await post(order.kind)
                except Exception as error:
                    print(order.kind, error)
                    order.state = "failed"
                else:
                    order.state = "posted"
            await s.commit()
        """,
    "goes on where a value is none": """\
        async with PlainSession() as s:
            user = await s.get(User, 1)
            try:
                user.visits = int(user.name)
            except ValueError:
                user.visits = -1
            await s.commit()
        """,
    "goes on where no row is there": """\
        async with PlainSession() as s:
            try:
                order = (await s.scalars(select(Order).where(Order.kind == "desk"))).one()
                print(order.id)
            except NoResultFound:
                s.add(Order(user_id=1, kind="desk"))
                await s.commit()
                print("made")
        """,
    "an error that says what it was about": """\
        try:
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                raise Stop(f"{user.name} has {user.visits}")
        except Stop as stop:
            print(stop.what)
        """,
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME.keys())
def test_what_is_safe_is_the_same(shop: Shop, body: str) -> None:
    before, after, said = outcomes(shop, job(body), unsafe=False)
    assert said == ""
    assert after == before


DIFFERENT = {
    "reads what expired, in a `try` of the block that goes on": (
        """\
        async with PlainSession() as s:
            orders = (await s.scalars(select(Order).order_by(Order.id))).all()
            for order in orders:
                try:
                    print(order.kind)
                except Exception:
                    print("cannot print")
                order.state = "printed"
                await s.commit()
        """,
        "an `except` catches errors of reading what may have to be loaded",
    ),
    "reads what is not loaded, where that flushes first": (
        """\
        async with PlainSession() as s:
            user = await s.get(User, 1)
            user.visits = 11
            try:
                print(user.orders)
            except Exception:
                print("cannot print")
            await s.commit()
        """,
        "an `except` catches errors of reading what may have to be loaded",
    ),
    "makes what others change behind the commit": (
        """\
        async def rename(user):
            user.name = "renamed"
        async with PlainSession() as s:
            user = User(name="eve")
            s.add(user)
            await s.commit()
            await rename(user)
        """,
        "what it loaded goes to code that was not followed",
    ),
    "adds and does not commit": (
        """\
        async with AsyncSession(engine) as s:
            s.add(Order(user_id=1, kind="never"))
            await s.flush()
        """,
        "nothing commits that",
    ),
    "does not commit on one way out": (
        """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 1)
            user.visits = 0
            if user.name == "ada":
                return
            await s.commit()
        """,
        "nothing commits that",
    ),
    "rolls back on purpose": (
        """\
        async with AsyncSession(engine) as s:
            s.add(Order(user_id=1, kind="tried"))
            await s.flush()
            await s.rollback()
            s.add(Order(user_id=1, kind="for the log"))
        """,
        "rolls back, and goes on",
    ),
    "a commit that fails on leaving, outside the block's own try": (
        """\
        async with AsyncSession(engine) as s:
            try:
                s.add(Order(user_id=99, kind="of nobody"))
                await s.flush()
            except Exception as error:
                print(type(error).__name__)
                raise
        """,
        "nothing commits that",
    ),
    "queries after an add": (
        """\
        async with AsyncSession(engine) as s:
            s.add(Order(user_id=3, kind="desk"))
            print(await s.scalar(select(func.count()).select_from(Order)))
            await s.commit()
        """,
        "without a `flush()`",
    ),
    "polls": (
        """\
        async with AsyncSession(engine) as s:
            for turn in range(3):
                user = await s.get(User, 1)
                print(user.name)
                await s.commit()
                await asyncio.sleep(0)
        """,
        "reads again after a commit",
    ),
    "a heartbeat": (
        """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 2)
            user.visits = 20
            await s.commit()
            await asyncio.sleep(0)
            user.visits = 20
            await s.commit()
        """,
        "what would have expired",
    ),
    "swallows the error of a flush": (
        """\
        async with AsyncSession(engine) as s:
            try:
                s.add(User(name="ada"))
                await s.flush()
            except Exception as error:
                print(type(error).__name__)
        """,
        "catches errors of the session",
    ),
    "an argument that the handler's sessions lack": (
        """\
        async with AsyncSession(engine, info={"task": "nightly"}) as s:
            print(s.info.get("task"))
        """,
        "do not have its `info`",
    ),
    "uses what it loaded after an error": (
        """\
        try:
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                raise Stop
        except Stop:
            print(user.name)
        """,
        "`user` is used where an error",
    ),
    "uses what it stored before an error": (
        """\
        user = User(name="zoe")
        try:
            async with AsyncSession(engine, expire_on_commit=False) as s:
                s.add(user)
                await s.commit()
                print(await s.scalar(select(func.count()).select_from(Order)))
                raise Stop
        except Stop:
            print(user.name)
        """,
        "`user` is used where an error",
    ),
    "takes in again what it made before an error": (
        """\
        user = User(name="zoe")
        try:
            async with AsyncSession(engine) as s:
                s.add(user)
                await s.flush()
                raise Stop
        except Stop:
            await store_again(user, "add")
        """,
        "`user` is used where an error",
    ),
    "uses what it loaded behind an error that was swallowed": (
        """\
        user = None
        for turn in range(2):
            if user is not None:
                print(user.name)
            try:
                async with AsyncSession(engine) as s:
                    user = await s.get(User, 1)
                    raise Stop
            except Stop:
                pass
        """,
        "`user` is used where an error",
    ),
    "an error that carries what it loaded": (
        """\
        try:
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                raise Stop(user)
        except Stop as stop:
            print(stop.what.name)
        """,
        "an error carries what it loaded",
    ),
    "an error that carries what belongs to what it loaded": (
        """\
        try:
            async with AsyncSession(engine) as s:
                found = select(Order).options(selectinload(Order.user)).where(Order.id == 1)
                order = (await s.scalars(found)).one()
                raise Stop(order.user)
        except Stop as stop:
            print(stop.what.name)
        """,
        "an error carries what it loaded",
    ),
    "what expired goes into another session": (
        """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 1)
            await s.commit()
        await asyncio.sleep(0)
        await store_again(user, "merge")
        """,
        "`user` goes on to another session",
    ),
    "takes in again what expired in the run before": (
        """\
        user = None
        for turn in range(2):
            async with AsyncSession(engine) as s:
                if user is not None:
                    s.add(user)
                    user.visits = 10
                    await s.commit()
                user = await s.get(User, 1)
                await s.commit()
            await asyncio.sleep(0)
        """,
        "`user` goes on to another session",
    ),
    "commits in a transaction that its factory begins, and goes on": (
        """\
        async with PlainSession.begin() as s:
            s.add(Order(user_id=1, kind="first"))
            await s.commit()
            s.add(Order(user_id=1, kind="second"))
        """,
        "fails in the transaction that is begun round it",
    ),
    "changes an object in a transaction that its factory began, and that ended": (
        """\
        async with SessionLocal.begin() as s:
            user = await s.get(User, 1)
            await s.commit()
            user.visits = 11
        """,
        "which fails in the transaction that is begun round it",
    ),
    "rolls back a transaction that its factory begins, and writes": (
        """\
        async with PlainSession.begin() as s:
            try:
                await s.get(User, 1)
                raise Stop
            except Stop:
                await s.rollback()
                s.add(Order(user_id=1, kind="for the log"))
                await s.commit()
                raise
        """,
        "fails in the transaction that is begun round it",
    ),
    "begins in a transaction that its factory begins": (
        """\
        async with PlainSession.begin() as s:
            async with s.begin():
                s.add(Order(user_id=1, kind="first"))
        """,
        "fails in the transaction that is begun round it",
    ),
    "looks into what expired": (
        """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 1)
            user.visits = 11
            await s.commit()
        print("name" in user.__dict__)
        """,
        "may show that it has expired",
    ),
    "looks into what expired, in the block": (
        """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 1)
            user.visits = 11
            await s.commit()
            print("name" in user.__dict__)
        """,
        "`user.__dict__` shows what has expired",
    ),
    "reads what expired, and catches the error": (
        """\
        async with AsyncSession(engine) as s:
            user = await s.get(User, 1)
            user.visits = 11
            await s.commit()
        try:
            print(user.name)
        except Exception:
            print("gone")
        """,
        "fails where errors are caught",
    ),
    "reads what expired in the block, and catches the error round it": (
        """\
        try:
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                user.visits = 11
                await s.commit()
                print(user.name)
        except Exception:
            print("gone")
        """,
        "fails where errors are caught",
    ),
}


@pytest.mark.parametrize(("body", "reason"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_is_unsafe_differs(shop: Shop, body: str, reason: str) -> None:
    before, after, said = outcomes(shop, job(body), unsafe=True)
    assert reason in said
    assert after != before
    assert not before.never_ran


LEFT_ALONE = {
    "another database": (
        """\
        elsewhere = create_async_engine(engine.url, connect_args={
            "ssl": False, "server_settings": {"search_path": "pg_catalog"}
        })
        async with AsyncSession(elsewhere) as s:
            print(await s.scalar(text("SHOW search_path")))
        await elsewhere.dispose()
        """,
        "its engine is another than the handler's",
    ),
    "another isolation level": (
        """\
        strict = engine.execution_options(isolation_level="SERIALIZABLE")
        async with AsyncSession(strict) as s:
            print(await s.scalar(text("SHOW transaction_isolation")))
        """,
        "its engine is another than the handler's",
    ),
    "another class": (
        """\
        async with CountingSession(engine) as s:
            print(await s.count_orders())
        """,
        "its class is not the one",
    ),
}
ITS_OWN_CLASS = """\
from sqlalchemy.ext.asyncio import create_async_engine


class CountingSession(AsyncSession):
    async def count_orders(self):
        return await self.scalar(select(func.count()).select_from(Order))


"""


@pytest.mark.parametrize(("body", "reason"), LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_what_has_no_fix_would_differ(shop: Shop, body: str, reason: str) -> None:
    program = job(body, before=ITS_OWN_CLASS)
    result = shop.fixed(program, unsafe=True)
    assert result.data == program.encode()
    assert any(reason in finding.help for finding in result.remaining)

    opening = re.compile(r"(?<=async with )\w+\(\w+\)")
    by_hand = opening.sub("get_background_session()", program)
    by_hand = by_hand.replace("import PlainSession", "import get_background_session, PlainSession")
    calls = (("job", ()),)
    assert shop.run(by_hand, calls) != shop.run(program, calls)
