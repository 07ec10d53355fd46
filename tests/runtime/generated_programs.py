"""Programs that use sessions as programs do, made by Hypothesis for the shop of `shop.py`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from .shop import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

Call = tuple[str, tuple[object, ...]]

NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay")
_SESSIONS = (
    "AsyncSession(engine)",
    "AsyncSession(engine)",
    "AsyncSession(engine)",
    "AsyncSession(bind=engine)",
    "AsyncSession(engine, expire_on_commit=False)",
    "AsyncSession(engine, expire_on_commit=False, autoflush=False)",
    "AsyncSession(engine, autoflush=False)",
    "PlainSession()",
    "PlainSession()",
    "SessionLocal()",
)
_BEGUN = ("PlainSession.begin()", "SessionLocal.begin()")


@dataclass(frozen=True)
class Program:
    """A program's text, and the calls that it is run with."""

    text: str
    calls: tuple[Call, ...]


@dataclass
class Writer:
    """Writes one function; knows which names hold objects that have not expired."""

    random: Random
    lines: list[str] = field(default_factory=list)
    depth: int = 1
    users: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)
    lists: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    loops: int = 0
    expires: bool = True
    autoflush: bool = True
    begins: bool = False
    is_open: bool = False
    dirty: bool = False
    pending: bool = False
    budget: int = 9
    made: int = 0

    # -- choices --------------------------------------------------------------------------------

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def one(self, *choices: str) -> str:
        return self.random.choice(choices)

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def inside(self, head: str) -> Iterator[None]:
        self.line(head)
        self.depth += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    def name(self, stem: str) -> str:
        self.made += 1
        return f"{stem}{self.made}"

    def user_name(self) -> str:
        if self.chance(25):
            return "name"
        return (
            repr(self.one(*NAMES)) if self.chance(25) else repr(f"new{self.random.randint(0, 9)}")
        )

    def key(self) -> str:
        return self.one("1", "2", "3", "number", "number")

    def condition(self) -> str:
        choices = ["flag", "flag", "not flag", "number > 1", "name == 'ada'"]
        choices += [f"{user} is None" for user in sorted(self.users)]
        choices += [f"{user} is not None and {user}.visits > 5" for user in sorted(self.users)]
        choices += [f"not {found}" for found in sorted(self.lists)]
        return self.one(*choices)

    # -- reads ----------------------------------------------------------------------------------

    def before_query(self) -> None:
        """Mostly flush what waits: without it the fix is not safe."""
        if self.pending and self.autoflush and self.chance(85):
            self.line("await s.flush()")
            self.pending = False

    def read_object(self) -> None:
        self.before_query()
        user = self.one("u", "u", "v")
        key, name = self.key(), self.user_name()
        selects = f"select(User).where(User.id == {key})"
        options = "select(User).options(selectinload(User.orders))"
        text = self.one(
            f"await s.get(User, {key})",
            f"await s.get(User, {key})",
            f"await s.scalar({selects})",
            f"await s.scalar(select(User).where(User.name == {name}))",
            f"(await s.execute({selects})).scalar_one_or_none()",
            f"(await s.scalars({options}.where(User.id == {key}))).one()",
            f"(await s.scalars({selects}.with_for_update())).first()",
        )
        if self.chance(10):
            with self.inside(f"if ({user} := {text}) is not None:"):
                self.line(f"print({user}.name, {user}.visits)")
        else:
            self.line(f"{user} = {text}")
        self.users.add(user)
        if self.chance(50):
            self.show(user)

    def read_list(self) -> None:
        self.before_query()
        ordered = "select(User).order_by(User.id)"
        if self.chance(30):
            self.line("q = select(User).order_by(User.id)")
            if self.chance(50):
                with self.inside("if flag:"):
                    self.line("q = q.where(User.visits > 15)")
            ordered = "q"
        text = self.one(
            f"(await s.scalars({ordered})).all()",
            f"list(await s.scalars({ordered}))",
            f"(await s.execute({ordered})).scalars().all()",
            f"[u async for u in await s.stream_scalars({ordered})]",
        )
        self.line(f"us = {text}")
        self.lists.add("us")
        if self.chance(60):
            self.line("print([u.name for u in us], sum(u.visits for u in us))")

    def read_values(self) -> None:
        self.before_query()
        match self.random.randint(0, 6):
            case 0:
                self.line("print(await s.scalar(select(func.count()).select_from(Order)))")
            case 1:
                self.line('print(await s.scalar(text("SELECT count(*) FROM users")))')
            case 2:
                self.line(
                    "rows = (await s.execute(select(User.id, User.name).order_by(User.id))).all()"
                )
                self.line("print([tuple(row) for row in rows])")
            case 3:
                user = self.one("1", "2", "number")
                self.line(f"n = await s.scalar(select(User.visits).where(User.id == {user}))")
                self.line("print(n)")
                self.values.add("n")
            case 4:
                with self.inside(
                    "for row in await s.execute(select(Order.id, Order.state).order_by(Order.id)):"
                ):
                    self.line("print(row.id, row.state)")
            case 5:
                with self.inside(
                    "async for row in await s.stream(select(User.id, User.name).order_by(User.id)):"
                ):
                    self.line("print(row.name)")
                    if self.chance(30):
                        with self.inside("if row.id > number:"):
                            self.line(self.one("break", "return row.name", "raise Stop(row.name)"))
            case _:
                self.line(
                    "print((await s.execute("
                    'text("SELECT id, kind FROM orders ORDER BY id"))).all())'
                )

    def read_later(self) -> None:
        """Ask now, and take the answer at another time."""
        if self.results and self.chance(70):
            name = self.one(*sorted(self.results))
            self.results.discard(name)
            self.line(f"us = {name}.scalars().all()")
            self.line("print([u.name for u in us])")
            self.lists.add("us")
        else:
            self.before_query()
            name = self.name("result")
            self.line(f"{name} = await s.execute(select(User).order_by(User.id))")
            self.results.add(name)

    def show(self, user: str) -> None:
        text = self.one(
            f"print({user}.name, {user}.visits)",
            f"print({user} and {user}.name)",
            f"print({user}.name if {user} is not None else None)",
            f"print({user} is None)",
        )
        self.line(text)

    def show_something(self) -> None:
        names = sorted(self.users)
        if names:
            self.show(self.one(*names))
        elif self.lists:
            self.line("print([u.visits for u in us])")
        elif self.values:
            self.line("print(n)")
        else:
            self.line("print(name)")

    def look(self) -> None:
        """Look into an object in a way that does not fail where it has expired."""
        names = sorted(self.users | self.expired)
        if not names:
            return self.read_object()
        user = self.one(*names)
        if self.chance(60):
            return self.line(f"print('name' in {self.one(f'vars({user})', f'{user}.__dict__')})")
        with self.inside("try:"):
            self.line(f"print({user}.name)")
        with self.inside(f"except {self.one('Exception', 'Exception', 'ValueError')}:"):
            self.line(self.one("print('gone')", "print('gone')", "raise"))
        return None

    def refresh(self) -> None:
        if not self.users:
            return self.read_object()
        user = self.one(*sorted(self.users))
        self.before_query()
        self.line(f"await s.refresh({user}{self.one('', '', ', [' + repr('name') + ']')})")
        return self.show(user)

    # -- writes ---------------------------------------------------------------------------------

    def wrote(self, *, pending: bool = True) -> None:
        self.dirty = True
        self.pending = self.pending or pending

    def add(self) -> None:
        self.wrote()
        key = self.key() if self.chance(90) else "99"
        name = self.user_name()
        match self.random.randint(0, 6):
            case 0 | 1:
                self.line(f"s.add(Order(user_id={key}, kind={name}))")
            case 2:
                self.line(f"s.add(User(name={name}))")
            case 3:
                user = self.one("u", "v")
                self.line(f"{user} = User(name={name}, visits={self.random.randint(0, 9)})")
                self.line(f"s.add({user})")
                self.users.add(user)
            case 4:
                self.line(f"s.add(User(name={name}, orders=[Order(kind='first')]))")
            case 5:
                self.line(f"s.add_all([Order(user_id={key}, kind=k) for k in names])")
            case _:
                if self.users:
                    self.line(
                        f"s.add(Order(user_id={self.one(*sorted(self.users))}.id, kind='of'))"
                    )
                else:
                    self.line(f"s.add(Order(user_id={key}, kind='x'))")

    def change(self) -> None:
        if not self.users:
            self.read_object()
        self.wrote()
        user = self.one(*sorted(self.users)) if self.users else "u"
        text = self.one(
            f"{user}.name = {self.user_name()}",
            f"{user}.name = {user}.name",
            f"{user}.visits = {self.random.randint(0, 50)}",
            f"{user}.visits += 1",
            f"{user}.visits = {user}.visits + number",
            f"{user}.visits = 5",
        )
        if self.chance(30):
            with self.inside(f"if {user} is not None:"):
                self.line(text)
        else:
            self.line(text)

    def change_collection(self) -> None:
        self.before_query()
        self.line(
            "w = await s.scalar(select(User).options(selectinload(User.orders))"
            f".where(User.id == {self.key()}))"
        )
        self.users.add("w")
        self.wrote()
        self.line(
            self.one(
                "w.orders.append(Order(kind=name))",
                "w.orders.remove(w.orders[0])",
                "w.orders[0].state = 'paid'",
                "w.orders = []",
                "w.orders.clear()",
            )
        )
        if self.chance(50):
            self.line("print(len(w.orders))")

    def delete(self) -> None:
        self.before_query()
        self.line(f"o = await s.get(Order, {self.key()})")
        with self.inside("if o is not None:"):
            self.line("await s.delete(o)")
        self.wrote()

    def merge(self) -> None:
        self.before_query()
        self.line(f"v = await s.merge(User(id={self.key()}, name={self.user_name()}))")
        self.users.add("v")
        self.wrote()

    def take_again(self) -> None:
        """Take in what an earlier block, or an earlier run of this one, may have left."""
        self.before_query()
        user = self.one("u", "v")
        with self.inside(f"if {user} is not None:"):
            if self.chance(60):
                self.line(f"s.add({user})")
            else:
                self.line(f"{user} = await s.merge({user})")
            if self.chance(50):
                self.line(f"{user}.visits = {self.one('5', '10', '20')}")
        self.wrote()

    def execute(self) -> None:
        self.before_query()
        self.wrote(pending=False)
        key, name = self.key(), self.user_name()
        added = f"insert(Order).values(user_id={key}, kind={name})"
        more = "values(visits=User.visits + number)"
        counted = 'text("UPDATE users SET visits = visits + 1 WHERE id = :id")'
        text = self.one(
            f"await s.execute({added})",
            f"print(await s.scalar({added}.returning(Order.id)))",
            f"await s.execute(update(User).where(User.id == {key}).values(name={name}))",
            f"await s.execute(update(User).where(User.visits > 5).{more})",
            f"await s.execute(delete(Order).where(Order.user_id == {key}))",
            "await s.execute(text(\"UPDATE orders SET state = 'paid' WHERE id = 1\"))",
            f"await s.execute({counted}, {{'id': {key}}})",
            "print((await s.execute(delete(Order).where(Order.state == 'new'))).rowcount)",
        )
        self.line(text)

    # -- transactions ---------------------------------------------------------------------------

    def commit(self) -> None:
        if self.begins and self.chance(80):
            return
        self.line("await s.commit()")
        self.committed()

    def committed(self) -> None:
        self.dirty = self.pending = False
        if self.expires and self.chance(90):
            for user in sorted(self.users):
                if self.chance(35):
                    self.line(f"await s.refresh({user})")
                else:
                    self.users.discard(user)
                    self.expired.add(user)
            self.lists.clear()

    def flush(self) -> None:
        self.line("await s.flush()")
        self.pending = False

    def world(self) -> None:
        self.line("await asyncio.sleep(0)")

    def odd(self) -> None:
        """Do what no safe fix may follow."""
        text = self.one(
            "await s.rollback()",
            "s.expire_all()",
            "await helper(s)",
            "await s.refresh(u)",
            "touch(u)",
            "touch_all(us)",
            "setattr(u, 'name', name)",
            "keep.append(u)",
            "await s.commit()",
            "s.expunge_all()",
        )
        self.line(text)
        self.wrote()

    # -- control --------------------------------------------------------------------------------

    def leave(self) -> None:
        """Leave the block by another way than its end."""
        kinds = ["return", "return", "raise"]
        if self.loops:
            kinds += ["break", "continue", "break", "continue"]
        kind = self.one(*kinds)
        if kind == "raise":
            some = sorted(self.users)
            with_user = [f"raise Stop({self.one(*some)})"] if some else []
            self.line(
                self.one("raise Stop(name)", "raise Stop", "raise ValueError(number)", *with_user)
            )
            return
        if self.dirty and self.chance(90) and not self.begins:
            self.line("await s.commit()")
        if kind == "return":
            values = ["name", "number", "None", *sorted(self.values)]
            values += [f"{user}.name" for user in sorted(self.users) if not self.dirty]
            values += sorted(self.users)
            kind = f"return {self.one(*values)}"
        self.line(kind)

    @contextmanager
    def branch(self) -> Iterator[None]:
        """Write a part that may not run: what it loads or leaves undone is not counted on."""
        kept = (set(self.users), set(self.lists), set(self.values), set(self.results))
        dirty, pending = self.dirty, self.pending
        yield
        self.users &= kept[0]
        self.lists &= kept[1]
        self.values &= kept[2]
        self.results &= kept[3]
        self.dirty, self.pending = self.dirty or dirty, self.pending or pending

    def if_else(self) -> None:
        with self.branch(), self.inside(f"if {self.condition()}:"):
            self.some(2)
            if self.chance(40):
                self.leave()
        if self.chance(30):
            with self.branch(), self.inside("else:"):
                self.some(2)

    def loop(self) -> None:
        head = self.one(
            "for i in range(2):",
            "for k in names:",
            "for name in names:",
            "while number < 4:",
            "users",
            "stream",
        )
        if head in ("users", "stream"):
            self.before_query()
        ordered = "select(User).order_by(User.id)"
        if head == "users":
            users = self.one(
                f"await s.scalars({ordered})",
                f"(await s.scalars({ordered})).all()",
                f"(await s.execute({ordered})).scalars()",
            )
            head = f"for v in {users}:"
        if head == "stream":
            head = f"async for v in await s.stream_scalars({ordered}):"
        self.loops += 1
        with self.branch(), self.inside(head):
            if "number" in head:
                self.line("number += 1")
            if "for v" in head:
                self.users.add("v")
                self.show("v")
            self.some(3)
            if self.dirty and self.chance(40) and "stream" not in head:
                self.commit()
        self.loops -= 1

    def attempt(self) -> None:
        with self.branch(), self.inside("try:"):
            self.some(3)
        if self.chance(15):
            with self.branch(), self.inside("finally:"):
                self.some(1)
            return
        caught = self.one("Exception", "Exception", "Stop", "ValueError", "(Stop, AttributeError)")
        with self.branch(), self.inside(f"except {caught} as error:"):
            self.line("print(type(error).__name__)")
            match self.random.randint(0, 9):
                case 0:
                    self.line("await s.rollback()")
                case 1:
                    self.some(1)
                case 2 | 3 | 4:
                    self.line("await s.rollback()")
                    if self.chance(30):
                        self.some(1)
                        self.line("await s.commit()")
                    self.line(self.one("raise", "raise", "raise Stop(name) from error"))
                case _:
                    if self.chance(30):
                        self.some(1)
                    self.line(self.one("raise", "raise", "raise Stop(name) from error"))
        if self.chance(15):
            with self.branch(), self.inside("else:"):
                self.some(1)
        if self.chance(15):
            with self.branch(), self.inside("finally:"):
                self.some(1)

    def nested(self) -> None:
        head = self.one(
            "async with s.begin_nested():", "async with s.begin_nested():", "async with s.begin():"
        )
        begins = self.begins
        if head.endswith("s.begin():"):
            self.begins = True
        with self.branch(), self.inside(head):
            self.some(3)
        self.begins = begins
        if head.endswith("s.begin():"):
            self.committed()
        else:
            self.pending = False

    def another(self) -> None:
        """Open a second session in the block of the first."""
        session = self.one("AsyncSession(engine)", "PlainSession()")
        is_in_with = self.chance(50)
        if not is_in_with:
            self.line(f"t = {session}")
        with self.inside(f"async with {session} as t:" if is_in_with else "try:"):
            self.line(
                self.one(
                    "t.add(Order(user_id=1, kind='nested'))",
                    "await t.execute(update(User).where(User.id == 1).values(visits=77))",
                    "print(await t.scalar(select(User.name).where(User.id == 1)))",
                    "t1 = await t.get(User, 2)",
                )
            )
            if self.chance(80):
                self.line("await t.commit()")
        if not is_in_with:
            with self.inside("finally:"):
                self.line("await t.close()")

    def trap(self) -> None:
        """Do what differs under the handler, with other steps between; no safe fix may follow."""
        key = self.key()
        read = self.one(
            f"u = await s.get(User, {key})",
            f"u = await s.scalar(select(User).where(User.id == {key}))",
            f"u = (await s.execute(select(User).where(User.id == {key}))).scalar_one_or_none()",
            "us = (await s.scalars(select(User).order_by(User.id))).all(); u = us[0]",
        )
        show = "print(u and u.name, u and u.visits)"
        value = self.one("10", "20", "u.visits", "30")
        kind = self.random.randint(0, 6)
        if kind == 0:  # a query that sees what was not flushed
            self.line(self.one(f"s.add(Order(user_id={key}, kind='late'))", "await s.delete(o)"))
            self.between()
            self.line("print(await s.scalar(select(func.count()).select_from(Order)))")
            self.wrote()
        elif kind == 1:  # a change that a query sees
            for line in (read, f"u.visits = {self.random.randint(40, 60)}"):
                self.line(line)
            self.between()
            self.line("print(await s.scalar(select(func.sum(User.visits))))")
            self.wrote()
        elif kind == 2:  # a poll
            for line in (read, show, "await s.commit()"):
                self.line(line)
            self.between()
            for line in ("await asyncio.sleep(0)", read.replace("u =", "v =", 1), "print(v.name)"):
                self.line(line)
        elif kind == 3:  # a poll in a loop
            with self.inside(self.one("for i in range(2):", "while (n := n + 1) < 3:")):
                for line in (read, show, "await s.commit()", "await asyncio.sleep(0)"):
                    self.line(line)
                    self.between()
        elif kind == 4:  # a heartbeat
            for line in (read, f"u.visits = {value}", "await s.commit()", "await asyncio.sleep(0)"):
                self.line(line)
                self.between()
            self.line(f"u.visits = {value if value != 'u.visits' else '10'}")
            self.wrote()
        elif kind == 5:  # an error that is swallowed
            with self.inside("try:"):
                self.line(self.one("s.add(User(name='ada'))", "s.add(User(id=1, name='x'))"))
                self.between()
                self.line("await s.flush()")
            with self.inside(self.one("except Exception:", "except Exception as error:")):
                self.line(self.one("print('skipped')", "pass", "print('no'); n = -1"))
        else:  # a write behind the commit
            self.line("await s.commit()")
            self.between()
            self.line(f"await s.execute(update(User).where(User.id == {key}).values(visits=1))")

    def between(self) -> None:
        """Mostly nothing, or another step."""
        if self.chance(30):
            self.step()

    def some(self, most: int) -> None:
        for _ in range(self.random.randint(1, most)):
            if self.budget <= 0 and len(self.lines) > 1:
                return
            self.budget -= 1
            self.step()

    def step(self) -> None:
        reads: list[Callable[[], None]] = [
            self.read_object,
            self.read_object,
            self.read_list,
            self.read_values,
            self.read_values,
            self.read_later,
            self.show_something,
            self.look,
            self.refresh,
            self.world,
        ]
        writes: list[Callable[[], None]] = [
            self.add,
            self.add,
            self.change,
            self.change_collection,
            self.delete,
            self.merge,
            self.take_again,
            self.execute,
            self.execute,
            self.flush,
            self.commit,
            self.commit,
        ]
        controls: list[Callable[[], None]] = [
            self.if_else,
            self.if_else,
            self.loop,
            self.attempt,
            self.nested,
            self.another,
        ]
        kind = self.random.randint(0, 99)
        if kind < self.control_share:
            return self.random.choice(controls)()
        if kind < self.control_share + self.write_share:
            return self.random.choice(writes)()
        if kind < self.control_share + self.write_share + self.odd_share:
            return self.odd()
        return self.random.choice(reads)()

    control_share: int = 25
    write_share: int = 35
    odd_share: int = 0

    # -- the block and what stands round it -----------------------------------------------------

    def block(self, *, is_last: bool) -> None:
        """Open a session, in one of the forms; `is_last` says that its errors end the function."""
        session = self.one(*_SESSIONS) if self.chance(92) else self.one(*_BEGUN)
        self.begins = "begin" in session
        self.expires = "expire_on_commit=False" not in session and "SessionLocal" not in session
        self.autoflush = "autoflush=False" not in session and "SessionLocal" not in session
        self.dirty = self.pending = False
        self.users.clear()
        self.lists.clear()
        self.results.clear()
        match self.random.randint(0, 9):
            case 0 | 1 | 2:
                self.write_share, self.odd_share = 0, 0
            case 9:
                self.write_share, self.odd_share = 30, 10
            case _:
                self.write_share, self.odd_share = 35, 0
        self.budget = self.random.randint(1, 9)
        forms: list[Callable[[str], None]] = [self.in_with] * 4
        if not self.begins:
            forms += [self.closed_by_hand] * 4 + [self.closed_in_with, self.on_stack, self.on_stack]
            forms += [self.opened_in_try, self.entered_by_name]
            if is_last:
                forms.append(self.closed_without_try)
        self.random.choice(forms)(session)

    def in_with(self, session: str) -> None:
        items = f"{session} as s"
        if self.chance(35):
            other = self.one(
                "PlainSession() as t",
                "asyncio.timeout(60)",
                "asyncio.Lock()",
                "Swallowing()",
                "s.begin()",
                "s.begin()",
            )
            self.begins = self.begins or "s.begin" in other
            parts = [items, other]
            if "s.begin" not in other:
                self.random.shuffle(parts)
            items = ", ".join(parts)
            if self.chance(20):
                items = f"({items})"
        with self.inside(f"async with {items}:"):
            self.body()

    def closed_by_hand(self, session: str) -> None:
        self.line(f"s{self.one('', '', ': AsyncSession')} = {session}")
        if self.chance(15):
            self.step()
        with self.inside("try:"):
            self.body()
        self.closing()

    def opened_in_try(self, session: str) -> None:
        if self.chance(50):
            self.line("s = None")
        with self.inside("try:"):
            self.line(f"s = {session}")
            self.body()
        self.closing()

    def entered_by_name(self, session: str) -> None:
        self.line(f"s = {session}")
        if self.chance(30):
            self.line(self.one("print(name)", "u = User(name=name)", "await asyncio.sleep(0)"))
        with self.inside(f"async with {self.one('s', 's as s', 's, s.begin()', 'aclosing(s)')}:"):
            self.body()

    def closed_in_with(self, session: str) -> None:
        with self.inside(f"async with {session} as s:"):
            with self.inside("try:"):
                self.body()
            self.closing()

    def closed_without_try(self, session: str) -> None:
        """Close at the end only; an error leaves the session open, and a transaction with it."""
        self.line(f"s = {session}")
        self.body()
        self.line("await s.close()")

    def closing(self) -> None:
        """End a `try` that closes its session, with an `except` or without."""
        kept = self.dirty, self.pending
        handlers = self.random.choice((0, 0, 0, 1, 1, 2))
        for _ in range(handlers):
            caught = self.one("Exception", "Exception", "BaseException", "Stop", "ValueError")
            with self.branch(), self.inside(f"except {caught} as error:"):
                if self.chance(35):
                    self.line("print(type(error).__name__)")
                if self.chance(10):
                    self.line(f"print({self.one('u and u.name', 'v and v.visits', 'len(us)')})")
                if self.chance(75):
                    self.line("await s.rollback()")
                if self.chance(90):
                    self.line(self.one("raise", "raise", "raise error", "raise Stop from error"))
                else:
                    self.line("n = -1")
        self.dirty, self.pending = kept
        if handlers and self.chance(25):
            with self.inside("else:"):
                self.some(1)
                self.commit()
        with self.inside("finally:"):
            if self.chance(5):
                self.line(self.one("print(n)", "print(u and u.name)"))
            self.line(self.one("await s.close()", "await s.close()", "await s.aclose()"))

    def on_stack(self, session: str) -> None:
        entered = (
            "t = await stack.enter_async_context(PlainSession())",
            "await stack.enter_async_context(asyncio.timeout(60))",
            "stack.enter_context(suppress(Stop))",
            "await stack.enter_async_context(Swallowing())",
        )
        head = self.one(
            "AsyncExitStack() as stack",
            "AsyncExitStack() as stack",
            "Swallowing(), AsyncExitStack() as stack",
            "AsyncExitStack() as stack, asyncio.Lock()",
        )
        with self.inside(f"async with {head}:"):
            if self.chance(20):
                self.line(self.one(*entered))
            self.line(f"s = await stack.enter_async_context({session})")
            if self.chance(15):
                self.line(self.one(*entered))
            self.body()

    def body(self) -> None:
        """Write what is done with a session."""
        if self.chance(20):
            self.some(2)
            self.trap()
            self.some(2)
            self.dirty = True
        else:
            self.some(6)
        if self.dirty and not self.begins and self.chance(92):
            self.commit()
        if self.chance(20):
            self.leave()

    def behind(self) -> None:
        """Use what the block left, as it is or in a session of its own."""
        names = ["u", "v", "w"]
        for _ in range(self.random.randint(0, 2)):
            user = self.one(*names)
            self.line(
                self.one(
                    f"print({user} is None)",
                    f"print({user} and {user}.name)",
                    f"print({user}.visits if {user} is not None else 0)",
                    "print(len(us))",
                    "print([u.name for u in us])",
                )
            )
        if self.chance(12):
            if self.chance(60):
                self.line("await asyncio.sleep(0)")
            how = self.one("merge", "add", "merge, change", "add, change")
            self.line(f"await store_again({self.one('u', 'v')}, {how!r})")

    def function(self, name: str) -> str:
        self.line("u = v = w = o = None")
        self.line("us, keep = [], []")
        self.line("n = 0")
        blocks = 1 if self.chance(75) else 2
        for block in range(blocks):
            match self.random.randint(0, 5):
                case 0 | 1:
                    with self.inside("try:"):
                        self.block(is_last=False)
                    with self.inside(f"except {self.one('Exception', 'Stop')} as error:"):
                        self.line("print(type(error).__name__)")
                        if self.chance(70):
                            self.behind()
                        if self.chance(20):
                            self.line("raise")
                case 2:
                    self.loops += 1
                    with self.inside(self.one("for name in names:", "for i in range(2):")):
                        self.block(is_last=False)
                        if self.chance(50):
                            self.behind()
                    self.loops -= 1
                case _:
                    self.block(is_last=block == blocks - 1)
            self.behind()
        self.line(f"return {self.one('name', 'u and u.name', 'u is None', 'n', 'len(us)')}")
        return f"async def {name}(name, number, flag, names):\n" + "\n".join(self.lines) + "\n"


_HELPERS = {
    "helper": """\
async def helper(session):
    session.add(Order(user_id=1, kind="helped"))


""",
    "touch": """\
def touch(user):
    user.visits = 0


""",
    "touch_all": """\
def touch_all(users):
    for user in users:
        user.visits = 0


""",
}


def _program(random: Random) -> Program:
    functions = ["job", "other_job"] if random.random() < 0.2 else ["job"]
    written = "\n\n".join(Writer(random).function(name) for name in functions)
    helpers = "".join(code for name, code in _HELPERS.items() if f"{name}(" in written)
    calls = [(name, _arguments(random)) for name in functions]
    if random.random() < 0.5:
        calls.append(("job", _arguments(random)))
    return Program(HEADER + helpers + written, tuple(calls))


def _arguments(random: Random) -> tuple[object, ...]:
    names = random.choices(("pen", "ada", "gus", "hal"), k=random.randint(0, 2))
    return random.choice(NAMES), random.randint(1, 4), random.random() < 0.5, names


def programs() -> st.SearchStrategy[Program]:
    """Make programs of one or two coroutines, mostly such as a safe fix could be for.

    Each is drawn as one number: Hypothesis would vary single statements, and try fewer programs.
    """
    return st.randoms(use_true_random=True).map(_program)
