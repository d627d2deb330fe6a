"""The verb that looks for what is wrong, and says what to do."""

from __future__ import annotations

import enum
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from worker import runtime
from worker.cli.output import Exit, print_json
from worker.core.errors import (
    StoreUnavailableError,
    VodCredentialsError,
    VodError,
    VodsyncError,
    VodThrottledError,
    VodUnavailableError,
)
from worker.logs import redactor
from worker.runtime import Runtime
from worker.settings import Source
from worker.store import Rollback, schema, tables
from worker.store.installation_health import NO_WORKER, installation_health

#: VOD refuses calls whose clock is a quarter of an hour off (vod-protocol 4.4); long before that something is wrong.
_SKEW = timedelta(minutes=1)

#: Codes that speak of what a key may do, and not of the key.
_RIGHTS = ("Forbidden", "NoPermission")

#: Bytes.
_ROOM = 256 * 2**20


class Verdict(enum.Enum):
    OK = "ok"
    #: Could not be looked at, or works but should be seen to.
    UNSURE = "unsure"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do."""

    part: str
    verdict: Verdict
    says: str


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check database, schema, broker, credentials, clock, callback settings, queue, spool, disk; exit 1 where something is wrong.

    Makes one call to VOD for each source, looks into its queue where it has one, and sends itself one message through the broker.
    """
    here = runtime.current()
    findings: list[Finding] = []
    for finding in _examine(here):
        findings.append(finding)
        if not as_json:
            typer.echo(f"{finding.verdict.value:6}  {finding.part}: {redactor.text(finding.says)}")
    if as_json:
        print_json([{"part": each.part, "verdict": each.verdict.value, "says": redactor.text(each.says)} for each in findings])
    if any(finding.verdict is Verdict.BAD for finding in findings):
        raise typer.Exit(Exit.FAILED)


def _examine(here: Runtime) -> Iterator[Finding]:
    checks: dict[str, Callable[[], str | tuple[Verdict, str]]] = {
        "database": lambda: _database(here),
        "schema": lambda: _schema(here),
        "work": lambda: _work(here),
        "broker": _broker,
        "spool": lambda: _spool(here),
        "disk": _disk,
    }
    for name, source in here.sources.items():
        checks[f"source {name}: callbacks"] = lambda name=name, source=source: _callbacks(name, source)  # type: ignore[misc]
        checks[f"source {name}: VOD"] = lambda name=name, source=source: _vod(here, name, source)  # type: ignore[misc]
        if source.smq_endpoint or source.smq_queue:
            checks[f"source {name}: queue"] = lambda name=name, source=source: _queue(here, name, source)  # type: ignore[misc]
        checks[f"source {name}: callback settings at VOD"] = lambda source=source: _settings_at_vod(source)  # type: ignore[misc]
    for part, check in checks.items():
        try:
            said = check()
        except VodsyncError as error:
            said = Verdict.BAD, str(error)
        except Exception as error:
            said = Verdict.BAD, f"{type(error).__name__}: {error}"
        verdict, says = said if isinstance(said, tuple) else (Verdict.OK, said)
        yield Finding(part, verdict, says)


def _database(here: Runtime) -> str:
    """Whether we may read and write; what is written is rolled back."""
    try:
        if schema.current(here.store) is None:
            return "reachable"
        here.store.transact(_write)
    except StoreUnavailableError as error:
        raise StoreUnavailableError(f"{error}; check VODSYNC_DATABASE_URL and the rights of its user") from error
    return f"{here.store.engine.dialect.name}, reachable and writable"


def _write(connection: sa.Connection) -> None:
    key = {"source": "doctor", "media_id": uuid.uuid4().hex}
    parse_time = {"requested_at": runtime.now(), "available_at": runtime.now()}
    row = key | parse_time | {"reason": "doctor", "priority": 0, "generation": 1, "attempts": 0, "state": "dead"}
    request = tables.sync_request
    connection.execute(sa.insert(request), row)
    same = (request.c.source == key["source"]) & (request.c.media_id == key["media_id"])
    connection.execute(sa.update(request).where(same).values(attempts=1))
    connection.execute(sa.delete(request).where(same))
    raise Rollback


def _schema(here: Runtime) -> str:
    schema.check(here.store)
    return f"revision {schema.REVISION}"


def _work(here: Runtime) -> str | tuple[Verdict, str]:
    with here.store.reading() as connection:
        seen = installation_health(connection, now=runtime.now(), sources=here.sources)
    alive, problems = sum(map(seen.alive, seen.workers)), seen.problems
    verdict = Verdict.BAD if problems else Verdict.UNSURE
    if not alive and not any(NO_WORKER in problem for problem in problems):
        problems.append(NO_WORKER)
    if problems:
        return verdict, "; ".join(problems)
    return f"{alive} workers alive, {seen.backlog.due} sync requests due"


def _broker() -> str:
    """A message there and back, through a queue of its own."""
    from kombu import Queue

    from worker.queue.celery_app import app

    name = f"vodsync.doctor.{uuid.uuid4().hex}"
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            channel = connection.default_channel
            queue = Queue(name, routing_key=name, durable=False, auto_delete=True)(channel)
            queue.declare()
            connection.Producer(channel).publish({"doctor": name}, routing_key=name, serializer="json")
            message = queue.get(no_ack=True)
            queue.delete()
    except Exception as error:
        raise VodsyncError(f"{type(error).__name__}: {error}; check VODSYNC_BROKER_URL. Until then workers sweep") from error
    if message is None:
        raise VodsyncError("a message was taken and did not come back; look at the broker's own log")
    return "a message went there and back"


def _spool(here: Runtime) -> str | tuple[Verdict, str]:
    if here.spool is None:
        return "not used with SQLite"
    here.spool.check()
    waiting = here.spool.waiting()
    if waiting.count:
        return (
            Verdict.UNSURE,
            f"{waiting.count} notifications wait in {here.spool.path} since {waiting.since}; a receiver moves them",
        )
    return f"{here.spool.path} is writable and empty"


def _disk() -> str | tuple[Verdict, str]:
    free = shutil.disk_usage(Path.cwd()).free
    if free < _ROOM:
        return Verdict.BAD, f"only {free // 2**20} MB are free here"
    return f"{free // 2**20} MB are free here"


def _callbacks(name: str, source: Source) -> str | tuple[Verdict, str]:
    if source.smq_queue and not source.callback_url and not source.callback_keys and source.callback_unsigned == "reject":
        return "none are taken; notifications come through the queue"
    source.require_callback(name)
    if source.callback_unsigned == "accept":
        return Verdict.UNSURE, "unsigned callbacks are taken from anybody (VODSYNC_CALLBACK_UNSIGNED=accept)"
    keys = len(source.callback_keys)
    return f"will be verified against {source.callback_url} with {keys} key{'s' if keys > 1 else ''}"


def _vod(here: Runtime, name: str, source: Source) -> str | tuple[Verdict, str]:
    """One signed call for an id that cannot exist; how far our clock is off comes with the answer."""
    from worker.vod.client import Client

    here.require_credentials(name)
    client = Client(source)
    try:
        client.batch_get_media_infos(["vodsyncdoctor"])
    except VodThrottledError as error:
        raise VodsyncError(f"{error}; other programs of this account may call too often. Workers wait and go on") from error
    except VodUnavailableError as error:
        if error.code:
            raise VodsyncError(f"{error} (request {error.request_id}); workers ask again until it is") from error
        raise VodsyncError(f"{error}; check VODSYNC_REGION, VODSYNC_ENDPOINT and the network") from error
    except VodError as error:
        # Of all refusals only this one proves that the signature was accepted.
        if error.code != "InvalidVideo.NotFound":
            raise VodsyncError(f"{error} (request {error.request_id})") from error
    skew = None if client.server_time is None else runtime.now() - client.server_time
    if skew is not None and abs(skew) > _SKEW:
        return Verdict.BAD, f"answers, but this machine's clock is {skew.total_seconds():+.0f} s off; set it by NTP"
    return "answers a signed call" + ("" if skew is None else f"; clock within {max(1, round(abs(skew.total_seconds())))} s")


def _queue(here: Runtime, name: str, source: Source) -> str | tuple[Verdict, str]:
    """A look that takes nothing."""
    from worker.vod.smq import MAX_MESSAGES, Queue

    source.has_queue(name)
    here.require_credentials(name)
    queue = Queue(source)
    try:
        seen = queue.check()
    except VodUnavailableError as error:
        raise VodsyncError(f"{error}; check VODSYNC_SMQ_ENDPOINT and the network") from error
    except VodCredentialsError as error:
        if error.code != "AccessDenied":
            raise
        # To look is a right of its own, which collecting does not need.
        return Verdict.UNSURE, f"{error}; without mns:PeekMessage nobody can look into it from here"
    finally:
        queue.close()
    if not seen:
        return f"{queue.name} answers a signed call and is empty"
    return f"{queue.name} answers a signed call; {seen}{' or more' if seen == MAX_MESSAGES else ''} messages wait to be received"


def _settings_at_vod(source: Source) -> str | tuple[Verdict, str]:
    from worker.vod.client import Client

    try:
        said: dict[str, Any] = Client(source).get_message_callback().get("MessageCallback") or {}
    except VodCredentialsError as error:
        right = "; give the RAM user vod:GetMessageCallback to compare them" if error.code.startswith(_RIGHTS) else ""
        return Verdict.UNSURE, f"cannot be read ({error.code}){right}"
    except VodError as error:
        return Verdict.UNSURE, f"cannot be read ({error.code or error})"
    wrong = list(_differences(said, source))
    if wrong:
        return Verdict.BAD, "; ".join(wrong)
    return "agree with ours"


def _differences(said: dict[str, Any], source: Source) -> Iterator[str]:
    kind = said.get("CallbackType") or "HTTP"
    if kind == "MNS" and source.smq_queue:
        yield from _differences_of_queue(said, source)
    elif kind != "HTTP":
        yield f"VOD sends to {kind}, not to HTTP"
    elif not source.callback_url and source.smq_queue:
        yield f"VOD calls {said.get('CallbackURL')}, and does not write to the queue {source.smq_queue}"
    if kind == "HTTP" and source.callback_url and said.get("CallbackURL") != source.callback_url:
        yield f"VOD calls {said.get('CallbackURL')}, VODSYNC_CALLBACK_URL is {source.callback_url}"
    if kind == "HTTP" and source.callback_keys and said.get("AuthSwitch") != "on":
        yield "authentication is off at VOD, and we take signed callbacks only"
    # Whether VOD shows the key, or part of it, is not documented.
    key = str(said.get("AuthKey") or "")
    ours = [each.get_secret_value() for each in source.callback_keys]
    if kind == "HTTP" and ours and key.isalnum() and key not in ours:
        yield "the authentication key at VOD is none of VODSYNC_CALLBACK_KEYS, so that each callback is refused"
    events = {part.strip() for part in str(said.get("EventTypeList") or "").split(",")}
    if not events & {"ALL", "VideoAnalysisComplete"}:
        yield "VOD does not send VideoAnalysisComplete"


def _differences_of_queue(said: dict[str, Any], source: Source) -> Iterator[str]:
    if said.get("MnsQueueName") != source.smq_queue:
        yield f"VOD writes to the queue {said.get('MnsQueueName')}, VODSYNC_SMQ_QUEUE is {source.smq_queue}"
    # VOD has the public address; inside a VPC ours has -internal in it.
    told, ours = (
        str(url or "").partition("://")[2].replace("-internal", "") for url in (said.get("MnsEndpoint"), source.smq_endpoint)
    )
    if told and told.rstrip("/") != ours:
        yield f"VOD writes to {said.get('MnsEndpoint')}, VODSYNC_SMQ_ENDPOINT is {source.smq_endpoint}"
