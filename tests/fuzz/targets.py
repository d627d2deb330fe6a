"""What can be fed, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.answering import Answering
from tests.fuzz.notifications import Notifications
from tests.fuzz.receiving import Receiving
from tests.fuzz.running import Target
from tests.fuzz.secret_texts import Secrets

TARGETS: dict[str, Callable[[], Target]] = {
    "receiver": Receiving,
    "events": Notifications,
    "answers": Answering,
    "secrets": Secrets,
}
