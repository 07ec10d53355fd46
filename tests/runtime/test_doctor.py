"""`session-guard doctor` as a process, at real servers of every kind."""

import asyncio
from collections.abc import Callable

import pytest

from session_guard.doctor.report import Report
from session_guard.doctor.server import Server, identify
from session_guard.doctor.target import Target
from session_guard.doctor.trial import Counts, Outcome

from .doctoring import SAFE, doctor, is_right, outcomes, report
from .servers import PgBouncer, Postgres, pgbouncer_version


def test_postgresql_itself(postgres: Postgres) -> None:
    found = report(postgres.dsn)
    assert (found["server"]["kind"], found["server"]["mode"]) == ("PostgreSQL", "none")
    assert found["server"]["session_state"] == "kept"
    assert found["server"]["startup"] == {
        "application_name": "kept",
        "statement_timeout": "kept",
        "search_path": "kept",
        "statement_cache_size": "refused",
        "session_guard_probe": "refused",
    }
    assert found["verdict"] == "safe"
    tried = outcomes(found)
    assert [name for name, outcome in tried.items() if not outcome["is_right"]] == ["standard-2025"]
    assert tried["standard-2025"]["refusal"] == "UndefinedObjectError"


def test_pgbouncer_in_transaction_mode(pgbouncer: PgBouncer) -> None:
    found = report(pgbouncer.dsn)
    server = found["server"]
    assert (server["kind"], server["mode"]) == ("PgBouncer", "transaction")
    assert server["named_statements"] is False
    assert server["startup"]["statement_timeout"] == "refused"
    assert server["session_state"] == "shared"
    assert found["verdict"] == "safe"
    tried = outcomes(found)
    assert not is_right(found, "naive", "transactions")
    assert tried["naive"]["modes"]["transactions"]["errors"]["InvalidSQLStatementNameError"]
    assert is_right(found, "unique+0+0", "transactions")
    assert not is_right(found, "unique+0+0", "AUTOCOMMIT")
    assert tried["unique+0+0"]["left"] > 0
    assert (tried["anonymous+0+0"]["is_right"], tried["anonymous+0+0"]["left"]) == (True, 0)
    assert tried["standard-2025"]["refusal"] == "ProtocolViolationError"
    # It took away what it left: statements of its own and of every kind.
    assert asyncio.run(pgbouncer.named_statements()) == [0, 0, 0]


def test_pgbouncer_in_session_mode(start_pgbouncer: Callable[..., PgBouncer]) -> None:
    found = report(start_pgbouncer(pool_mode="session").dsn)
    assert (found["server"]["kind"], found["server"]["mode"]) == ("PgBouncer", "session")
    assert found["server"]["session_state"] == "kept"
    assert found["server"]["leftovers"] == []
    assert found["verdict"] == "safe"
    assert is_right(found, "naive", "transactions")


def test_pgbouncer_in_session_mode_that_resets_nothing(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    pooler = start_pgbouncer(pool_mode="session", server_reset_query="")
    found = report(pooler.dsn)
    assert (found["server"]["mode"], found["server"]["session_state"]) == ("session", "kept")
    assert found["server"]["leftovers"] == ["prepared statements", "settings"]
    # The second program finds the first one's statements under the names that it gives, maybe as
    # it connects.
    naive = outcomes(found)["naive"]
    errors = {naive["refusal"], *naive["modes"]["transactions"]["errors"]} - {None}
    assert errors == {"DuplicatePreparedStatementError"}
    assert outcomes(found)["unique+0+0"]["left"] > 0
    assert (outcomes(found)["anonymous+0+0"]["left"], found["verdict"]) == (0, "safe")
    assert asyncio.run(pooler.named_statements("session")) == [0, 0, 0]


def test_session_mode_that_takes_only_statements_away(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    async def server() -> Server:
        pooler = start_pgbouncer(pool_mode="session", server_reset_query="DEALLOCATE ALL")
        return await identify(Target.parse(pooler.dsn, "off"), lambda _: None)

    assert asyncio.run(server()).leftovers == ("settings",)


def test_session_mode_with_one_place(start_pgbouncer: Callable[..., PgBouncer]) -> None:
    found = report(start_pgbouncer(pool_mode="session", default_pool_size="1").dsn)
    assert (found["server"]["mode"], found["server"]["serves_two"]) == ("session", False)
    assert found["server"]["leftovers"] == []
    assert found["verdict"] == "safe"


def test_transaction_mode_with_one_server_connection(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    # Who waits there for the other one's transaction waits for ever.
    found = report(start_pgbouncer(default_pool_size="1", query_wait_timeout="0").dsn)
    assert (found["server"]["mode"], found["server"]["serves_two"]) == ("transaction", False)
    assert is_right(found, "unique+0+0", "AUTOCOMMIT")  # as nowhere else
    assert found["verdict"] == "unknown"
    assert "did not meet on two server connections" in found["conclusion"]


def test_pgbouncer_in_statement_mode(start_pgbouncer: Callable[..., PgBouncer]) -> None:
    found = report(start_pgbouncer(pool_mode="statement").dsn)
    assert (found["server"]["kind"], found["server"]["mode"]) == ("PgBouncer", "statement")
    assert found["verdict"] == "unsafe"


def test_pgbouncer_that_ignores_startup_parameters(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    ignored = "statement_cache_size,statement_timeout"
    found = report(start_pgbouncer(ignore_startup_parameters=ignored).dsn)
    assert found["server"]["kind"] == "PgBouncer"
    assert found["server"]["startup"]["statement_timeout"] == "dropped"
    assert found["server"]["startup"]["statement_cache_size"] == "dropped"
    assert is_right(found, "standard-2025", "transactions")


def test_pgbouncer_that_resets_after_each_transaction(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    found = report(start_pgbouncer(server_reset_query_always="1").dsn)
    assert found["server"]["mode"] == "transaction"
    assert found["server"]["session_state"] == "lost"
    assert not is_right(found, "naive", "transactions")
    assert outcomes(found)["unique+0+0"]["left"] == 0
    assert found["verdict"] == "safe"


@pytest.mark.skipif(
    pgbouncer_version() < (1, 21), reason="PgBouncer translates named statements from 1.21 on"
)
def test_pgbouncer_that_translates_named_statements(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    found = report(start_pgbouncer(max_prepared_statements="200").dsn)
    assert found["server"]["named_statements"] is True
    assert is_right(found, "naive", "transactions")


def test_deep_asks_from_several_processes(pgbouncer: PgBouncer) -> None:
    found = report(pgbouncer.dsn, "--deep")
    counts = outcomes(found)["anonymous+0+0"]["modes"]["transactions"]
    assert counts["right"] == 4 * 8 * 20 * 3
    naive = outcomes(found)["naive"]["modes"]["transactions"]
    assert naive["wrong"]  # rows of other processes, which one alone never sees
    assert asyncio.run(pgbouncer.named_statements()) == [0, 0, 0]


def test_text_says_what_was_found(pgbouncer: PgBouncer) -> None:
    run = doctor(pgbouncer.dsn)
    assert run.returncode == SAFE
    first, *_, last = run.stdout.splitlines()
    assert first.startswith(f"127.0.0.1:{pgbouncer.port}/postgres: PgBouncer in transaction mode")
    assert last == "Safe: `anonymous+0+0` was right in every mode."
    assert "trying anonymous+0+0: cursors" in run.stderr


def test_text_says_what_is_left_to_the_next_client() -> None:
    right = Outcome("anonymous+0+0", {"transactions": Counts(right=3, served={1: {"a", "b"}})}, 0)
    said = {
        leftovers: "\n".join(
            Report(
                "h:1/d",
                Server("PgBouncer", "session", "15.1", True, leftovers=leftovers),
                (right,),
            ).lines()
        )
        for leftovers in (("prepared statements", "settings"), (), None)
    }
    assert (
        "left to the next client: prepared statements and settings, which"
        in said["prepared statements", "settings"]
    )
    assert "left to the next client: neither prepared statements nor settings" in said[()]
    assert "left to the next client" not in said[None]


def test_text_shows_what_came_of_the_programs_that_could_connect() -> None:
    tried = {"transactions": Counts(right=3, wrong=2)}
    naive = Outcome("naive", tried, left=0, refusal="DuplicatePreparedStatementError")
    found = Report(
        "h:1/d", Server("PgBouncer", "transaction", "15.1", True), (naive,), engine="naive"
    )
    [row] = [line for line in found.lines() if line.startswith("naive ")]
    assert "3 right, 2 WRONG, others cannot connect: DuplicatePreparedStatementError" in row
    assert "fails before its first query in some of its programs" in found.conclusion
