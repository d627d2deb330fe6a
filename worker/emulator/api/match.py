"""A Match expression of SearchMedia in, conditions out (vod-protocol 6.1).

Status in ('Normal','Blocked') and CreationTime = ['2025-11-24T00:00:00Z','2025-11-25T00:00:00Z'] and (CateId='1' or Tags='x')
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable
from dataclasses import dataclass
from time import strptime
from typing import NoReturn, Protocol

from worker.emulator.api.api_errors import ApiError

#: Values that one `in` may name.
LONGEST_IN = 100

#: Names of the id; one of these finds its media without looking at any other.
IDS = frozenset(("MediaId", "VideoId", "AudioId"))
TIMES = frozenset(("CreationTime", "ModificationTime"))
RANGES = TIMES | {"Size", "Duration"}
#: Compared by what they contain, also inside `in`.
FUZZY = frozenset(("Title", "Description", "Tags"))
EXACT = frozenset(
    ("Status", "CateId", "CateName", "AppId", "ReferenceId", "StorageLocation", "StorageClass", "DownloadSwitch", "TemplateGroupId")
)

_TOKEN = re.compile(r"\s*(?:(?P<text>'[^']*')|(?P<word>[A-Za-z0-9_.\-]+)|(?P<sign>[=,()\[\]])|(?P<end>$))")
_CLOSING = {"(": ")", "[": "]"}


class Facts(Protocol):
    """What can be asked of one medium."""

    def text(self, name: str) -> str | None: ...

    def number(self, name: str) -> float | None:
        """A field of RANGES, times in unix seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """The field is one of `values`, or contains one of them where it is fuzzy."""

    name: str
    values: frozenset[str]

    def holds(self, facts: Facts) -> bool:
        found = facts.text(self.name)
        if found is None:
            return False
        if self.name in FUZZY:
            folded = found.casefold()
            return any(value.casefold() in folded for value in self.values)
        return found in self.values


@dataclass(frozen=True, slots=True)
class Within:
    """The field lies between two bounds, of which one may be missing; `closed` includes the bounds."""

    name: str
    low: float | None
    high: float | None
    closed: bool

    def holds(self, facts: Facts) -> bool:
        found = facts.number(self.name)
        if found is None:
            return False
        if self.closed:
            return (self.low is None or self.low <= found) and (self.high is None or found <= self.high)
        return (self.low is None or self.low < found) and (self.high is None or found < self.high)


@dataclass(frozen=True, slots=True)
class Group:
    """What stands in parentheses, joined by one word."""

    conditions: tuple[Condition, ...]
    #: True for `or`, False for `and`.
    alternative: bool

    def holds(self, facts: Facts) -> bool:
        joined = any if self.alternative else all
        return joined(condition.holds(facts) for condition in self.conditions)


Condition = Named | Within | Group


def parse(expression: str) -> tuple[Condition, ...]:
    """The conditions that all have to hold; none for an empty expression. Raises Refusal with ErrorMatchSyntax."""
    if not expression.strip():
        return ()
    return _Parser(expression).whole()


class _Parser:
    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._at = 0
        self._kind = self._token = ""
        self._advance()

    def whole(self) -> tuple[Condition, ...]:
        joint = self._joint()
        if self._kind != "end":
            self._refuse()
        if not joint.alternative:
            return joint.conditions
        raise _syntax("an or has to stand in parentheses")

    def _joint(self) -> Group:
        conditions = [self._condition()]
        words = set()
        while self._token.lower() in ("and", "or"):
            words.add(self._advance().lower())
            conditions.append(self._condition())
        if len(words) > 1:
            raise _syntax("and is mixed with an or that stands outside of parentheses")
        return Group(tuple(conditions), words == {"or"})

    def _condition(self) -> Condition:
        if self._token == "(":  # noqa: S105
            self._advance()
            group = self._joint()
            self._expect(")")
            return group
        if self._kind != "word":
            self._refuse()
        name = self._advance()
        if name not in IDS | RANGES | FUZZY | EXACT:
            raise _syntax(f"{name} is not a field that can be matched")
        if self._token.lower() == "in":
            self._advance()
            return self._listed(name)
        self._expect("=")
        return self._ranged(name) if self._token in ("(", "[") else self._same(name, [self._value()])

    def _listed(self, name: str) -> Condition:
        self._expect("(")
        values = [self._value()]
        while self._token == ",":  # noqa: S105
            self._advance()
            values.append(self._value())
        self._expect(")")
        if len(values) > LONGEST_IN:
            raise _syntax(f"in names {len(values)} values, {LONGEST_IN} are allowed")
        return self._same(name, values)

    def _same(self, name: str, values: list[str]) -> Condition:
        if name not in RANGES:
            return Named(name, frozenset(values))
        read = _reader(name)
        exactly = tuple(Within(name, read(value), read(value), closed=True) for value in values)
        return exactly[0] if len(exactly) == 1 else Group(exactly, alternative=True)

    def _ranged(self, name: str) -> Condition:
        if name not in RANGES:
            raise _syntax(f"{name} has no range")
        read = _reader(name)
        opening = self._advance()
        low = None if self._token == "," else read(self._value())  # noqa: S105
        self._expect(",")
        high = None if self._token in _CLOSING.values() else read(self._value())
        # Half-open ranges are nowhere documented, so that nobody should rely on them.
        self._expect(_CLOSING[opening])
        if low is None and high is None:
            raise _syntax(f"the range of {name} has no bounds")
        return Within(name, low, high, closed=opening == "[")

    def _value(self) -> str:
        if self._kind not in ("text", "word"):
            self._refuse()
        quoted = self._kind == "text"
        value = self._advance()
        if quoted:
            return value[1:-1]
        if re.fullmatch(r"-?\d+(?:\.\d+)?", value) is None:
            raise _syntax(f"{value} has to stand in single quotes")
        return value

    def _expect(self, sign: str) -> None:
        if self._kind != "sign" or self._token != sign:
            self._refuse()
        self._advance()

    def _advance(self) -> str:
        """Step on to the next token; the one that was left behind."""
        left = self._token
        found = _TOKEN.match(self._expression, self._at)
        if found is None:
            raise _syntax(f"cannot be read from character {self._at + 1} on")
        self._kind = str(found.lastgroup)
        self._token = found[self._kind]
        self._at = found.end()
        return left

    def _refuse(self) -> NoReturn:
        raise _syntax(f"{self._token or 'the end'} is not expected at character {self._at}")


def _reader(name: str) -> Callable[[str], float]:
    return _second if name in TIMES else _number


def _second(text: str) -> float:
    try:
        return timegm(strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise _syntax(f"{text} is not a time like 2025-11-24T00:00:00Z") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _syntax(f"{text} is not a number") from None


def _syntax(reason: str) -> ApiError:
    return ApiError("ErrorMatchSyntax", 400, f"The syntax of Match is wrong: {reason}.")
