"""Check that this process can write its local files, before it starts work that could never succeed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from worker.core.errors import ConfigurationError

#: Folders inside the folder of the embedded broker: messages, declared exchanges, and messages that consumers have taken.
BROKER_FOLDERS = ("messages", "control", "taken")


def prepare_broker_folder(folder: Path) -> list[Path]:
    """Create the folders of the embedded broker and return them. Raises ConfigurationError if they cannot be written."""
    paths = [folder / name for name in BROKER_FOLDERS]
    try:
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
        _require_access(*paths, *(path for path in [folder / "control" / "lock"] if path.exists()))
    except OSError as error:
        raise ConfigurationError(
            f"the embedded broker cannot use {error.filename}: {error.strerror}; let this user write the folder "
            f"{folder.absolute()}, or set VODSYNC_BROKER_FOLDER to another one, or VODSYNC_BROKER_URL to RabbitMQ or Redis"
        ) from None
    return paths


def require_spool(path: Path) -> None:
    """Raises ConfigurationError if the spool could not be written, whatever happens later."""
    files = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        _require_access(path.parent, *(file for file in files if file.exists()))
    except OSError as error:
        raise ConfigurationError(
            f"the spool cannot use {error.filename}: {error.strerror}; let this user write the folder {path.absolute().parent}, "
            "or set VODSYNC_SPOOL to a file in another one"
        ) from None


def _require_access(*paths: Path) -> None:
    for path in paths:
        path.stat()
        needed = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
        if not os.access(path, needed):
            number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number), str(path))
