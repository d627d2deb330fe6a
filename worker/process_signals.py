"""Decide what each signal does in every process of vodsync: stop in order, or nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

#: The signals that stop a process in order. The system sends SIGHUP if the terminal is closed.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: Other programs use these to reopen their logs or to print their state. By default they would end the process.
IGNORED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


def ignore_user_signals() -> None:
    """Ignore SIGUSR1 and SIGUSR2, here and in the programs that this process starts."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def on_stop(handler: Callable[[int, FrameType | None], object]) -> None:
    """Call `handler` for each signal that stops the process. SIGHUP stays ignored if `nohup` started this process."""
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def stop_on_hangup() -> None:
    """Let SIGHUP do what SIGTERM does, for a server that handles only SIGTERM."""
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
