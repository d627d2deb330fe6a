"""A user of a database without any privilege, and an administrator that runs what vodsync's messages name."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from tests.conftest import service_url
from worker.core.errors import UnsuitableDatabaseError
from worker.store.url import database_url

T = TypeVar("T")

PASSWORD = "Us3rTestDbPassword"


@dataclass(frozen=True)
class User:
    """`accounts` are the names to which privileges are granted."""

    name: str
    url: str
    database: str
    accounts: tuple[str, ...]
    _engine: sa.Engine

    def administrate(self, *statements: str) -> None:
        """Run statements as the administrator of the server; `{user}` and `{database}` become the names."""
        with self._engine.connect() as connection:
            for statement in statements:
                for account in self.accounts if "{user}" in statement else ("",):
                    connection.execute(sa.text(statement.replace("{user}", account).replace("{database}", self.database)))

    def obey(self, action: Callable[[], T]) -> tuple[T, list[str]]:
        """Repeat `action`, and run the statement that each refusal names. Return its result and the statements."""
        statements: list[str] = []
        while True:
            try:
                return action(), statements
            except UnsuitableDatabaseError as error:
                statement = _named_statement(str(error))
            assert statement not in statements, f"did not help: {statement}"
            statements.append(statement)
            self.administrate(statement)


def _named_statement(message: str) -> str:
    named = re.search("an administrator of the database has to run: ([^;]*)", message)
    assert named, message
    return named[1]


@contextmanager
def user_without_privileges(url: str) -> Iterator[User]:
    """A new user that may connect to the server of `url` and do nothing in its database."""
    target = sa.make_url(url)
    backend = target.get_backend_name()
    administrator = database_url(service_url(backend)).set(database=target.database)
    engine = sa.create_engine(administrator, isolation_level="AUTOCOMMIT")
    name = f"vodsync_{secrets.token_hex(4)}"
    own = target.set(username=name, password=PASSWORD).render_as_string(hide_password=False)
    if backend == "postgresql":
        user = User(name, own, str(target.database), (name,), engine)
        user.administrate(f"CREATE ROLE {{user}} LOGIN PASSWORD '{PASSWORD}'")
    else:
        user = User(name, own, str(target.database), tuple(f"'{name}'@'{host}'" for host in ("localhost", "%")), engine)
        user.administrate(f"CREATE USER {{user}} IDENTIFIED BY '{PASSWORD}'")
    try:
        yield user
    finally:
        user.administrate(*(["DROP OWNED BY {user}", "DROP ROLE {user}"] if backend == "postgresql" else ["DROP USER {user}"]))
        engine.dispose()
