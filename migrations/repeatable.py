"""Skip each operation of a migration that was applied before.

MariaDB and MySQL commit every DDL statement at once, so a migration that is interrupted leaves some of its tables, columns and
indexes. With these classes it can be run again, and continues. On PostgreSQL and SQLite all migrations are one transaction.

Alembic uses the class that was defined last for a dialect. Migrations call `op.create_table` and so on, as usual.
"""

import sqlalchemy as sa
from alembic.ddl import mysql, postgresql, sqlite
from alembic.util import CommandError


class Repeatable:
    """The operations that migrations use. Each first looks at what the database has."""

    def create_table(self, table, **options):
        existing = self._columns(table.name)
        if not existing:
            super().create_table(table, **options)
            return
        missing = [column.name for column in table.columns if column.name not in existing]
        if missing:
            raise CommandError(
                f"the database has a table {table.name} without the column {missing[0]}, so it is not a table of vodsync; rename "
                "or drop it, and run: vodsync migrate"
            )

    def add_column(self, table_name, column, **options):
        if column.name not in self._columns(table_name):
            super().add_column(table_name, column, **options)

    def create_index(self, index, **options):
        if index.name not in self._indexes(index.table.name):
            super().create_index(index, **options)

    def drop_table(self, table, **options):
        if self._columns(table.name):
            super().drop_table(table, **options)

    def drop_column(self, table_name, column, **options):
        if column.name in self._columns(table_name):
            super().drop_column(table_name, column, **options)

    def drop_index(self, index, **options):
        if index.name in self._indexes(index.table.name):
            super().drop_index(index, **options)

    def _columns(self, table_name):
        """Return the names of the table's columns; none if there is no such table."""
        inspector = sa.inspect(self.connection)
        return {column["name"] for column in inspector.get_columns(table_name)} if inspector.has_table(table_name) else set()

    def _indexes(self, table_name):
        inspector = sa.inspect(self.connection)
        return {index["name"] for index in inspector.get_indexes(table_name)} if inspector.has_table(table_name) else set()


class RepeatablePostgresql(Repeatable, postgresql.PostgresqlImpl):
    __dialect__ = "postgresql"


class RepeatableMySql(Repeatable, mysql.MySQLImpl):
    __dialect__ = "mysql"


class RepeatableMariaDb(Repeatable, mysql.MariaDBImpl):
    __dialect__ = "mariadb"


class RepeatableSqlite(Repeatable, sqlite.SQLiteImpl):
    __dialect__ = "sqlite"
