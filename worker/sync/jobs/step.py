"""Define what a kind of job is, what one of its steps returns, and how parameters and checkpoints become JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection

from worker.store.jobs.job_rows import Job


class JobRefusedError(Exception):
    """The job cannot continue until a person changes something. The message names the change; it becomes the job's last_error."""


class JobFormatError(Exception):
    """The parameters or the checkpoint of a job were written by another release and cannot be read by this one."""


def unreadable_counter(count: int) -> dict[str, int]:
    """Return the counter of fields and rows of a listing that could not be read. It exists only if there are some."""
    return {"unreadable": count} if count else {}


class Progress(NamedTuple):
    """The checkpoint of the next step, and what this step adds to the job's counters."""

    checkpoint: msgspec.Struct
    counters: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step: what it found is stored by `write`.

    `write` runs in the transaction that also stores the returned checkpoint and counters. It may run several times, because a
    transaction is repeated after a deadlock, so it changes nothing but the database.
    """

    write: Callable[[Connection], Progress]
    #: True for the last step of the job.
    is_last: bool = False
    #: The next step runs this much later.
    wait: timedelta = timedelta(0)

    @classmethod
    def to(
        cls,
        checkpoint: msgspec.Struct,
        counters: Mapping[str, int] | None = None,
        *,
        is_last: bool = False,
        wait: timedelta = timedelta(0),
    ) -> Step:
        """Return a step that stores nothing but the job's checkpoint and counters."""
        progress = Progress(checkpoint, counters or {})
        return cls(lambda _connection: progress, is_last=is_last, wait=wait)


class Kind(Protocol):
    """One kind of job, for one source."""

    def step(self, job: Job, *, now: datetime) -> Step:
        """Do the step at `job.checkpoint`, outside of any transaction. Raises VodError, JobRefusedError and JobFormatError."""


#: Kinds by source and name.
Kinds = Mapping[tuple[str, str], Kind]


def to_json(value: object) -> dict[str, Any]:
    """Return a struct or dataclass as JSON values, times as 2026-01-31T12:00:00+00:00: the form of all releases so far."""
    encoded: dict[str, Any] = _times_as_text(msgspec.to_builtins(value, builtin_types=(datetime,)))
    return encoded


# Any, because mypy has no name for "the type that the caller passes" if that is a union of structs.
def from_json(stored: Mapping[str, Any], expected: Any, job: Job) -> Any:
    """Return the stored parameters or checkpoint of `job` as the type `expected`. Unknown keys are ignored.

    Raises JobFormatError. The job is then tried again later: during an upgrade, a worker of the newer release can continue it.
    """
    try:
        return msgspec.convert(stored, expected)
    except msgspec.ValidationError as error:
        raise JobFormatError(
            f"{job.kind} {job.id} was started by another release of vodsync and cannot be read by this one ({error}); "
            f"upgrade this worker, or cancel the job: vodsync jobs cancel {job.id}"
        ) from error


def _times_as_text(value: Any) -> Any:  # JSON values of any shape
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _times_as_text(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_times_as_text(member) for member in value]
    return value
