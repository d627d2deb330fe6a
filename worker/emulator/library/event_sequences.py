"""The events of one asset in their order, each with the time when it is due.

A sequence composes an event only when it is sent, so that a million pending uploads need little memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.emulator.library import events
from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.library import Library
from worker.emulator.library.timeline import Upload


class EventSequence(Protocol):
    """Events that are numbered from 0 and due in that order."""

    def __len__(self) -> int:
        """Return the number of events."""
        ...

    def due_at(self, number: int) -> float:
        """Return when event `number` is due, in unix seconds."""
        ...

    def body(self, number: int) -> JsonObject:
        """Return the body of event `number`; every call returns the same."""
        ...


@dataclass(frozen=True, slots=True)
class UploadEvents:
    """The events in the life of one upload."""

    library: Library
    upload: Upload
    index: int

    def __len__(self) -> int:
        return len(self.library.steps(self.index))

    def due_at(self, number: int) -> float:
        return self.upload.started_at + self.library.steps(self.index)[number].share * self.upload.life_seconds

    def body(self, number: int) -> JsonObject:
        return events.step_event(
            self.library.steps(self.index)[number],
            self.library.documented_element(self.index),
            at=self.due_at(number),
            outline=self.library.outline(self.index),
            damaged=self.upload.damaged,
        )


@dataclass(frozen=True, slots=True)
class ImmediateEvents:
    """Events of a manual change, all due at the time of the change."""

    changed_at: float
    bodies: Sequence[JsonObject]

    def __len__(self) -> int:
        return len(self.bodies)

    def due_at(self, number: int) -> float:
        return self.changed_at

    def body(self, number: int) -> JsonObject:
        return self.bodies[number]
