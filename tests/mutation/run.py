"""Run the tests of a module against its mutants, in copies of the repository."""

from __future__ import annotations

import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutation.operators import Mutant, mutants

#: What the tests need of the repository.
COPIED = ("worker", "migrations", "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")

#: A mutant may run this many times as long as the unchanged module, plus the allowance: an endless loop is noticed as well.
TIME_FACTOR = 4
TIME_ALLOWANCE = 10.0  # seconds

MAX_MEMORY = 4 * 1024**3  # bytes; a mutant that fills a list in an endless loop must not stop the machine

#: The limit of memory is set by the process itself.
_RUN_PYTEST = (
    "import resource, sys, pytest;"
    f"resource.setrlimit(resource.RLIMIT_AS, ({MAX_MEMORY}, {MAX_MEMORY}));"
    "sys.exit(pytest.main(sys.argv[1:]))"
)

_PLUGINS = ("-p", "xdist", "-p", "hypothesispytest")

_PASSED = 0
_NO_TESTS = 5


class BrokenTestsError(Exception):
    """The tests do not pass without a mutation, so they prove nothing."""


@dataclass(slots=True)
class ModuleResult:
    """`total` mutants exist, `run` were tried, `survivors` of these were not noticed."""

    module: str
    total: int
    run: int = 0
    timeouts: int = 0
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The share of the tried mutants that a test noticed."""
        return 1 - len(self.survivors) / self.run if self.run else 1.0


def sample(module: str, source: str, *, size: int, seed: int) -> tuple[int, list[Mutant]]:
    """Return the number of all mutants of a module, and `size` of them: the same for the same seed. 0 means all."""
    every = list(mutants(source))
    if not size or size >= len(every):
        return len(every), every
    chosen = random.Random(f"{seed} {module}").sample(range(len(every)), size)
    return len(every), [every[index] for index in sorted(chosen)]


def run_module(
    root: Path,
    scratch: Path,
    module: str,
    tests: Sequence[str],
    *,
    size: int,
    seed: int,
    jobs: int,
    report: Callable[[str], object] = lambda _line: None,
) -> ModuleResult:
    """Try `size` mutants of `module`, `jobs` at a time. Raises BrokenTestsError.

    Copies of the repository are made in `scratch`. The checkout at `root` is only read.
    """
    source = (root / module).read_text()
    total, chosen = sample(module, source, size=size, seed=seed)
    result = ModuleResult(module, total)
    copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(jobs):
        copies.put(_copy(root, scratch / f"copy-{number}"))
    timeout = TIME_ALLOWANCE + TIME_FACTOR * _check_unchanged(copies, module, tests)

    def attempt(mutant: Mutant) -> tuple[Mutant, int | None]:
        copied = copies.get()
        try:
            (copied / module).write_text(mutant.source)
            return mutant, _run_tests(copied, tests, timeout=timeout)
        finally:
            (copied / module).write_text(source)
            copies.put(copied)

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for mutant, status in pool.map(attempt, chosen):
            result.run += 1
            result.timeouts += status is None
            if status == _PASSED:
                result.survivors.append(mutant)
                report(f"{module}:{mutant.line}: {mutant.before}  ->  {mutant.after}")
    return result


def _copy(root: Path, target: Path) -> Path:
    if not target.exists():
        target.mkdir(parents=True)
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in COPIED:
            path = root / name
            if path.is_dir():
                shutil.copytree(path, target / name, ignore=ignored)
            elif path.exists():
                shutil.copy2(path, target / name)
    return target


def _check_unchanged(copies: queue.SimpleQueue[Path], module: str, tests: Sequence[str]) -> float:
    """Return the seconds that the tests take. Proves that they pass, and that they notice a module that cannot be imported."""
    copied = copies.get()
    path = copied / module
    source = path.read_text()
    try:
        started = time.monotonic()
        status = _run_tests(copied, tests, timeout=600.0)
        duration = time.monotonic() - started
        if status != _PASSED:
            raise BrokenTestsError(f"{module}: pytest {' '.join(tests)} ends with {status} without any mutation")
        path.write_text(f"raise ImportError\n{source.replace('from __future__ import annotations', '')}")
        if _run_tests(copied, tests, timeout=600.0) in (_PASSED, _NO_TESTS):
            raise BrokenTestsError(f"{module}: pytest {' '.join(tests)} does not import the module")
    finally:
        path.write_text(source)
        copies.put(copied)
    return duration


def _run_tests(copied: Path, tests: Sequence[str], *, timeout: float) -> int | None:
    """Return pytest's exit status, or None if it took longer than `timeout` seconds."""
    arguments = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *_PLUGINS, "--hypothesis-seed=0", *tests]
    environment = os.environ | {
        "PYTHONPATH": str(copied),
        # Python compares the time of a source file in whole seconds with its cached byte code, and mutants follow quickly.
        "PYTHONDONTWRITEBYTECODE": "1",
        # Most of a short run is the import of plugins that these tests do not use.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN_PYTEST, *arguments],
        cwd=copied,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
