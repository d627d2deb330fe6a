"""`vodsync up`: run all roles on this machine."""

from __future__ import annotations

from collections.abc import Callable

import typer

from worker import logs, runtime
from worker.cli.context import callback_path
from worker.cli.listening import require_port
from worker.cli.options import Concurrency, Host, PollSmq, Port
from worker.cli.output import print_info
from worker.cli.supervisor import Supervisor
from worker.core.errors import ConfigurationError, StoreUnavailableError, UnsuitableDatabaseError
from worker.store import schema

log = logs.get(__name__)


def up(host: Host = None, port: Port = None, concurrency: Concurrency = 4, smq: PollSmq = False) -> None:
    """Run everything on this machine: migrate, then receiver, worker and beat.

    Needs four settings: ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET, VODSYNC_CALLBACK_URL as configured at VOD,
    and VODSYNC_CALLBACK_KEYS. Ctrl-C or SIGTERM stops in order. A role that dies is started again.
    """
    installation = runtime.current()
    _require_settings(installation, smq=smq)
    address = installation.address(host, port)
    require_port(*address)
    is_migrated = _migrate(installation)
    roles = {
        "receiver": ["serve", "--supervised", "--host", address[0], "--port", str(address[1])],
        "worker": ["work", "--supervised", "--beat", "--concurrency", str(concurrency), *(["--smq"] if smq else [])],
    }
    paths = " and ".join(map(callback_path, installation.sources))
    print_info(f"vodsync: receiver on http://{address[0]}:{address[1]}{paths}, worker and beat; Ctrl-C stops")
    # While the database is unreachable the receiver spools notifications. The worker can do nothing before there are tables.
    deferred = set() if is_migrated else {"worker"}
    supervisor = Supervisor(roles, deferred=deferred, is_ready=lambda: _migrate(installation, running=True))
    raise typer.Exit(supervisor.run())


def _require_settings(installation: runtime.Runtime, *, smq: bool) -> None:
    """Raises ConfigurationError that names all missing settings, so that an operator can set them at once."""
    checks: list[Callable[[], object]] = [installation.require_credentials, installation.require_callbacks]
    checks += [installation.require_broker, installation.require_spool]
    if smq:
        checks.append(installation.require_queues)
    missing = []
    for check in checks:
        try:
            check()
        except ConfigurationError as error:
            missing.append(str(error))
    if missing:
        raise ConfigurationError("; ".join(missing))


def _migrate(installation: runtime.Runtime, *, running: bool = False) -> bool:
    """Apply pending migrations. Return False if the server is unreachable; raises StoreUnavailableError if there is no spool.

    A database that is set up wrongly raises UnsuitableDatabaseError. If roles are `running`, the receiver continues to spool.
    """
    try:
        revision = schema.upgrade(
            installation.settings.database_url.get_secret_value(), schema=installation.settings.database_schema
        )
    except StoreUnavailableError as error:
        if installation.spool is None or (isinstance(error, UnsuitableDatabaseError) and not running):
            raise
        log.warning("database unreachable; migrations are applied when it is back", error=str(error))
        return False
    finally:
        installation.store.close()
    if revision > schema.REVISION:
        print_info(f"vodsync: {schema.describe_revision(revision)}")
    return True
