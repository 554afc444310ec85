"""From plain values to a command's settings: layers merged, checked, and refused in plain words.

Also makes the settings of a run's later rounds. Knows flags and ranges as ``config/`` declares
them; nothing of Typer, files or models.

    resolve(SampleConfig, {"paths": 16}, {"paths": None, "temperature": 0.5})
    -> SampleConfig(paths=16, temperature=0.5, ...)
"""

from __future__ import annotations

import difflib
import hashlib
import typing
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from lmsi_cli.config import (
    PRESETS,
    RARE,
    Config,
    RunConfig,
    SampleConfig,
    TrainConfig,
    VoteConfig,
)
from lmsi_cli.errors import LmsiError

C = TypeVar("C", bound=Config)
EMPTY = "none"  # an empty list, as it is typed and shown
SEED_BITS = 31  # a number that every library takes as a seed, and a person can type


def resolve(kind: type[C], *layers: dict[str, Any], where: str = "") -> C:
    """Merge layers of plain values, the last one winning, and check them.

    A value of ``None`` means "not given". A layer's preset beats the layers before it, and what the
    layer itself gives beats its preset. A setting that holds several values takes one of them, or
    text with commas, too. ``where`` is the file and table that the values come from; empty for the
    command line.

    LmsiError: a name is unknown or a value is out of range; says which, and what it may be.
    """
    merged = {k: v for layer in layers for k, v in with_preset(layer).items() if v is not None}
    for name, (_, meta, default) in kind.described().items():
        if name in merged and isinstance(default, tuple):
            merged[name] = _listed(merged[name], meta.extra["repeated"])
        elif name in merged and merged[name] == (meta.extra["zero"] or 0):
            merged[name] = 0
    try:
        return msgspec.convert(merged, kind, strict=False)
    except msgspec.ValidationError as e:
        raise _refusal(kind, merged, str(e), where) from None


def _listed(value: Any, repeated: bool) -> Any:  # noqa: ANN401 - any value
    """Make a list of a single value or of text with commas; ``none`` is an empty list.

    Text of a ``repeated`` flag is one value: it may hold commas of its own.
    """
    if isinstance(value, str):
        parts = [value] if repeated else [part.strip() for part in value.split(",")]
        return [] if value in ("", EMPTY) else parts
    return [value] if isinstance(value, int | float) else value


def check(kind: type[C], values: dict[str, Any], where: str) -> C:
    """The settings of ``kind`` among a file's values; LmsiError: they may not have such a value."""
    known = {k: values[k] for k in kind.__struct_fields__ if k in values}
    try:
        return msgspec.convert(known, kind)
    except msgspec.ValidationError as e:
        raise _refusal(kind, known, str(e), where) from None


def with_preset(layer: dict[str, Any]) -> dict[str, Any]:
    """Add the values of a layer's preset, if it has one; the layer's own values win."""
    given = {k: v for k, v in layer.items() if v is not None}
    preset = given.get("preset")
    return {**PRESETS.get(preset, {}), **given} if isinstance(preset, str) else given


def flags(name: str, meta: Meta) -> list[str]:
    """Spell a setting as flags, the long one last: ``["-n", "--paths"]``, ``["--set top_k"]``."""
    flag = (meta.extra or {}).get("flag", "")
    if flag == RARE:
        return [f"{RARE} {name}"]
    return flag.split("/") if flag else [f"--{name.replace('_', '-')}"]


def _refusal(kind: type[Config], given: dict[str, Any], complaint: str, where: str) -> LmsiError:
    """Say it in the user's terms: msgspec knows neither flags nor the value it refused."""
    names = kind.__struct_fields__
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"settings: {', '.join(names)}"
            return LmsiError(f"{where}: unknown setting '{name}'", hint=hint)
    name = complaint.rpartition("`$.")[2].partition("`")[0].partition("[")[0]
    type_, meta, _ = kind.described()[name]
    place = f"{where} {name}" if where else flags(name, meta)[-1]
    value = given[name]
    shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return LmsiError(f"{place}: expected {_allowed(type_, meta)}, got {shown!r}")


def _allowed(type_: Any, meta: Meta) -> str:  # noqa: ANN401 - any annotation
    """Describe the values of a setting: ``a number, at least 0 and at most 10``."""
    inner = typing.get_args(type_)
    if forms := (meta.extra or {}).get("forms"):
        return str(forms)
    if typing.get_origin(type_) is tuple:
        if typing.get_origin(inner[0]) is Annotated:
            return f"one or more, each {_allowed(*typing.get_args(inner[0]))}"
        return f"one or more of {', '.join(typing.get_args(inner[0]))}"
    for number in (t for t in inner if typing.get_origin(t) is Annotated):
        words = [w for t in inner if typing.get_origin(t) is Literal for w in typing.get_args(t)]
        return f"{', '.join(words)} or {_allowed(*typing.get_args(number))}"
    if typing.get_origin(type_) is Literal:
        return f"one of {', '.join(inner)}"
    kinds = {bool: "true or false", int: "a whole number", float: "a number"}
    word = next((word for t, word in kinds.items() if t in (type_, *inner)), "text")
    zero = (meta.extra or {}).get("zero")
    word = f"{zero} or {word}" if zero else word
    limits = {"at least": meta.ge, "above": meta.gt, "at most": meta.le, "below": meta.lt}
    bounds = " and ".join(f"{how} {x:g}" for how, x in limits.items() if x is not None)
    return word + (f", {bounds}" if bounds else "")


class Settings(NamedTuple):
    """What a round samples, votes and trains with."""

    sample: SampleConfig
    vote: VoteConfig
    train: TrainConfig


def of_round(settings: Settings, config: RunConfig, number: int, init: str = "") -> Settings:
    """The settings of a round, numbered from 1; the first round has those that are given.

    So the first round is the run that the single commands make. Later ones have seeds of their own;
    the last of the given temperatures serves all later rounds. ``init`` is the adapter folder that
    training starts from; empty: as the settings say.
    """
    sample, vote, train = settings
    given = config.round_temperature
    temperature = given[min(number, len(given)) - 1] if given else sample.temperature
    replace = msgspec.structs.replace
    return Settings(
        replace(sample, temperature=temperature, seed=seed_of(sample.seed, number)),
        replace(vote, seed=seed_of(vote.seed, number)),
        replace(train, seed=seed_of(train.seed, number), init=init or train.init),
    )


def seed_of(seed: int, number: int) -> int:
    """A round's seed: the given one in the first round, below 2**31 in later ones.

    It is a hash: adding the numbers would give the second round of seed 0 the streams of the first
    round of seed 1.
    """
    if number == 1:
        return seed
    digest = hashlib.blake2b(f"{seed}\x1fround {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - SEED_BITS)
