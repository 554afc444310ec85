"""Bytes that were a good file, spoiled: cut, doubled, overwritten, mixed, with huge numbers.

Knows bytes, JSON and TOML; nothing of what a file is for. The same chance gives the same file:

    spoiled(Random("run:17"), b'{"paths": 3}', others=[...]) -> b'{"paths": 1e999999}'
"""

import json
import re
import tomllib

import tomli_w

HUGE = ["1e999999", "-1", "0", "NaN", "Infinity", str(2**31), str(2**64), "9" * 5000]
NASTY = [
    None, True, -1, 2**60, 1e300, "", "x", "\0", "\ud83d", "../../x", "/etc/passwd", "\x1b[2J",
    [], {}, ["x"], {"x": 1}, [[[]]], "9" * 5000,
]  # fmt: skip
TOKENS = [
    b"\0", b"\n", b"\r", b'"', b"{", b"[", b"]", b"}", b",", b"\\ud83d", b"\\u0000", b"\xff",
    b"\xef\xbb\xbf", b"[" * 100_000, b'{"a":' * 100_000, b"#", b"=", b"<", b"x" * 200_000,
]  # fmt: skip
COUNTS = [0, 1, 2, 8, 2**7, 2**15, 2**31 - 1, 2**31, 2**60, 2**63, 2**64 - 1]


def spoiled(rng, data, others=()):
    """Spoil a file once or a few times; of ``others`` one may lend a part."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(WAYS)(rng, data, others)
    return data


def _place(rng, data):
    """A place in a file, mostly near its beginning."""
    return rng.randrange(min(len(data), rng.choice((4096, 65_536, len(data)))) + 1)


def _part(rng, data, others):
    """A part is gone, or another one stands in its place, upon what follows, or before it."""
    at, end = sorted((_place(rng, data), _place(rng, data)))
    flipped = bytes(b ^ 1 << rng.randrange(8) for b in data[at : at + rng.choice((1, 2, 16))])
    count = rng.choice(COUNTS).to_bytes(8, "little")[: rng.choice((4, 8))]  # of words, or of bytes
    lent = [other[len(other) // 2 :] for other in others]
    new = rng.choice((b"", data[at:end], flipped, count, rng.choice([*TOKENS, *lent])))
    return data[:at] + new + data[rng.choice((at, at + len(new), end)) :]


def _number(rng, data, _):
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:100_000]))
    if not found:
        return data
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(HUGE).encode() + data[one.end() :]


def _value(rng, data, _):
    """One value of a JSON or TOML file, or of a line, is another one, or its name is."""
    try:
        text = data.decode()
        if text.lstrip()[:1] != "{":
            return tomli_w.dumps(_changed(rng, tomllib.loads(text))).encode()
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(_changed(rng, json.loads(lines[at])))
        return "\n".join(lines).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return data


def _changed(rng, value):
    if not isinstance(value, list | dict) or not value or rng.random() < 0.1:
        return rng.choice(NASTY)
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if rng.random() < 0.2:
        gone = value.pop(key)
        if isinstance(value, dict) and rng.random() < 0.5:
            value["nonesuch"] = gone
    else:
        value[key] = _changed(rng, value[key])
    return value


WAYS = (_part, _part, _part, _part, _number, _value, _value, _value)
