"""Whether a signature or a password gets past strip_signature and the log's redactor."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec

from tests.fuzz import grammar
from worker import logs
from worker.core.urls import clean, strip_signature

_NAMES = [
    *("auth_key", "Expires", "OSSAccessKeyId", "Signature", "security-token", "x-oss-signature", "x-oss-security-token"),
    *(
        "x-oss-credential",
        "x-oss-date",
        "x-oss-expires",
        "x-oss-signature-version",
        "x-oss-additional-headers",
        "AUTH_KEY",
        "signature",
    ),
]

#: What a value begins with and goes on with, as it is seen in URLs: plain, base64, or percent-encoded.
_TAILS = ["", "=", "==", "%3D%3D", "+a/b", "%2Bx%2F", ".x", "-0-0-ff", "~_", ":a", ";b", "/aliyun_v4_request", "*", "@a", "$"]
_PLAIN = ["a=1", "b=", "x-oss-process=image/resize,w_100", "token=t", "c", "next=http://n.example.org/", "d=%20"]
_BEFORE = ["", "See ", "(", '"', "<a href='", "x,", "\n", "Expires=5 ", "\u00e9", "a=b&c ", "\\", '["', "?", "\ufeff"]
_AFTER = ["", ".", ")", '"', "'>", ",", " and", "\n", "#t=5", "\u3002", "\\", '"]', "!", ";", "&", "&&", "\0", "\ud800", "<"]
_HOSTS = [
    "http://img.example.org/a.jpg",
    "https://b.oss-cn-shanghai.aliyuncs.com/x/%E4%BD%A0.mp4",
    "//h/",
    "http://[::1]:80/",
    "/p",
]

#: What the redactor is told.
KNOWN = ("Sup3rSecretKey", "Sup3rSecretKeyLonger", "s3cr3t+/=", "p\u00e4ssw\u00f6rt", "with space", "(a.*b)\\d")


class Case(NamedTuple):
    #: A text, and what must not stand in it afterwards.
    text: str
    hidden: tuple[str, ...]
    #: Fields of a log line, and what must not stand in those.
    fields: dict[str, Any]
    secrets: tuple[str, ...]


class Secrets:
    name = "secrets"
    group = 64

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self._redactor = logs._Redactor()
        self._redactor.learn(KNOWN)

    def make(self, rng: Random) -> Case:
        hidden: list[str] = []
        if rng.random() < 0.2:
            text = "".join(grammar.text(rng)[:200] for _ in range(rng.randint(1, 5)))
        else:
            text = "".join(_url(rng, hidden) for _ in range(rng.choice((1, 1, 1, 2, 3))))
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
            text = rng.choice((json.dumps, _readable, _in_object))(text)
        secrets: list[str] = []
        fields = {f"field{n}": _logged(rng, text, secrets) for n in range(rng.randint(1, 3))}
        return Case(text, tuple(hidden), fields, tuple(secrets))

    def check(self, cases: Sequence[Case]) -> Iterator[tuple[Case, str]]:
        for case in cases:
            self.tally["signed" if case.hidden else "unsigned"] += 1
            for complaint in self._complaints(case):
                yield case, complaint

    def close(self) -> None:
        pass

    def _complaints(self, case: Case) -> Iterator[str]:
        stripped = strip_signature(case.text)
        if any(secret in stripped for secret in case.hidden):
            yield f"a signature survives: {stripped[:300]!r}"
        if strip_signature(stripped) != stripped or strip_signature(case.text) != stripped:
            yield "stripping again changes something"
        value = _json(case.text)
        if value is not None and _json(stripped) is None:
            yield f"JSON that was valid is not any more: {stripped[:300]!r}"
        cleaned = clean(value)
        if any(secret in json.dumps(cleaned) for secret in case.hidden):
            yield "a signature survives cleaning"
        if clean(cleaned) != cleaned:
            yield "cleaning again changes something"
        json.dumps(cleaned, allow_nan=False, ensure_ascii=False).encode()
        line = self._redactor(None, "info", {"event": "phrase", **case.fields})
        written = json.dumps(line, ensure_ascii=False)
        shown = list(map(str, line.values()))
        if msgspec.json.decode(written.encode()) != line:
            yield "the line is no JSON"
        for known in (*KNOWN, *case.secrets):
            if any(known in each for each in shown):
                yield f"the secret {known!r} stands in the log: {written[:400]}"
        if any(not each.isprintable() for name, each in zip(line, shown, strict=True) if name != "exception"):
            yield "a control character stands in the log"
        # Only a text with an address in it is looked at for signatures.
        if any("://" in said and any(secret in each for secret in case.hidden) for said, each in _pairs(case, line)):
            yield f"a signature stands in the log: {written[:400]}"


def _pairs(case: Case, line: Any) -> Iterator[tuple[str, str]]:
    for name, said in case.fields.items():
        yield str(said), str(line[name])


def _url(rng: Random, hidden: list[str]) -> str:
    ampersand = rng.choice(("&", "&", "&", "&amp;", "\\u0026", "\\\\u0026", "&&"))
    equals = rng.choice(("=", "=", "=", "\\u003d"))
    question = rng.choice(("?", "?", "?", "\\u003f", "\\\\u003F", "?&", "?a=1&"))
    parameters = []
    for _ in range(rng.randint(1, 5)):
        if rng.random() < 0.6:
            secret = f"zq{rng.getrandbits(48):012x}"
            hidden.append(secret)
            parameters.append(f"{rng.choice(_NAMES)}{equals}{secret}{rng.choice(_TAILS)}")
        else:
            parameters.append(rng.choice(_PLAIN))
    return f"{rng.choice(_BEFORE)}{rng.choice(_HOSTS)}{question}{ampersand.join(parameters)}{rng.choice(_AFTER)}"


def _readable(text: str) -> str:
    return json.dumps([text], ensure_ascii=False)


def _in_object(text: str) -> str:
    return json.dumps({"EventType": "x", text[:20]: [text, 1]})


def _logged(rng: Random, text: str, secrets: list[str]) -> Any:
    dice = rng.random()
    if dice < 0.25:
        return text
    if dice < 0.4:
        return f"{grammar.text(rng)[:30]}{rng.choice(KNOWN)}{rng.choice(_AFTER)}{rng.choice(KNOWN)}"
    if dice < 0.7:
        secret = f"pw{rng.getrandbits(48):012x}{rng.choice(('', '%40', '!', '?', '#', '&', '=', '$x', ':y', '+', ';'))}"
        secrets.append(secret[:14])
        scheme = rng.choice(("postgresql+psycopg", "amqp", "redis", "mysql", "https"))
        if rng.random() < 0.7:
            user = rng.choice(("", "user", "user%40x", "u.v-w"))
            return f"{rng.choice(_BEFORE)}{scheme}://{user}:{secret}@host:5432/db{rng.choice(_AFTER)}"
        name = rng.choice(("password", "passwd", "sslpassword", "PASSWORD"))
        return f"{scheme}://host/db?{rng.choice(('', 'a=1&'))}{name}={secret}{rng.choice(('', '&b=2'))}"
    if dice < 0.8:
        return rng.choice((0, -1, 1.5, True, None, 2**70))
    if dice < 0.9:
        return [text, {"key": rng.choice(KNOWN[:4])}]
    return rng.choice((ValueError, OSError))(f"{text} {rng.choice(KNOWN[:4])}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
