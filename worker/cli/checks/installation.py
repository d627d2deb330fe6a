"""Check that the imported code is the installed vodsync."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import worker
from worker.cli.checks import Finding, Verdict

DISTRIBUTION = "vodsync"
PACKAGE = "worker"


def check_imports() -> Finding | str:
    """Name the folder of the code if it is not that of the installed vodsync, and whatever else could be imported in its place.

    `worker` is a common name: another package, or a file in the working directory, may have it too.
    """
    folder = Path(worker.__file__).resolve().parent
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return Finding(Verdict.UNSURE, f"vodsync is not installed; `{PACKAGE}` was imported from {folder}. Install it with pip")
    installed = _installed_folder(distribution)
    if folder != installed:
        return Finding(
            Verdict.UNSURE,
            f"`{PACKAGE}` was imported from {folder}, and vodsync {distribution.version} is installed in {installed}; "
            "check PYTHONPATH, and run `vodsync` in place of `python -m worker`",
        )
    owners = set(metadata.packages_distributions().get(PACKAGE, [])) - {DISTRIBUTION}
    if owners:
        return Finding(
            Verdict.UNSURE,
            f"{', '.join(sorted(owners))} also installs a package `{PACKAGE}`; install vodsync in an environment of its own",
        )
    foreign = _foreign_package(Path.cwd(), folder)
    if foreign is not None:
        return Finding(
            Verdict.UNSURE,
            f"{foreign} has the name of our package. `python -m worker` and `celery -A worker.queue` import it if they are started "
            "in this directory; start them elsewhere, or use `vodsync`",
        )
    return f"vodsync {worker.__version__} in {folder}"


def _installed_folder(distribution: metadata.Distribution) -> Path:
    """Return the folder of the package `worker` that belongs to the installed distribution."""
    # pip and uv describe an editable installation in this file.
    direct_url = json.loads(distribution.read_text("direct_url.json") or "{}")
    if direct_url.get("dir_info", {}).get("editable"):
        return Path(url2pathname(urlsplit(direct_url["url"]).path), PACKAGE).resolve()
    return Path(str(distribution.locate_file(PACKAGE))).resolve()


def _foreign_package(directory: Path, ours: Path) -> Path | None:
    """Return what `import worker` would import from `directory`; None if that is nothing, or is our own package."""
    package = directory / PACKAGE
    # Python prefers a package to a module of the same name. A folder without __init__.py loses against any installed package.
    if (package / "__init__.py").is_file():
        return None if package.resolve() == ours else package
    module = directory / f"{PACKAGE}.py"
    return module if module.is_file() else None
