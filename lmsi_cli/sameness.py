"""Whether a run folder is gone on with under the settings that it was begun with.

Knows flat settings; nothing of files or of what a setting means. What a user is told:

    the paths in runs/a had other settings: temperature: 0.7 in the run folder, 0.9 now
"""

from __future__ import annotations

from typing import Any

import msgspec

from lmsi_cli.errors import LmsiError

HASH = "_sha256"  # ends the name of a setting that holds the hash of a file


def check_same(saved: dict[str, Any], now: dict[str, Any], what: str) -> None:
    """Refuse to go on with a run folder under other settings than it was begun with.

    Args:
        saved: Flat settings from run.toml.
        now: Flat settings of this call. A missing key equals None, and a tuple equals a list,
            since TOML keeps neither None nor tuples. Of a ``model_sha256`` the user is told as
            ``model``, by the name beside it (``model_name``, ``model_file`` or ``model``), which
            itself may differ: a file may be moved.
        what: What the settings belong to: ``"the paths in runs/a"``.

    Raises:
        LmsiError: Names each setting that differs, with both values.
    """
    old, new = builtins_of(saved), builtins_of(now)
    keys = dict.fromkeys([*new, *old])
    names = {n for k in keys if k.endswith(HASH) for n in _names(k)}
    told = [_difference(k, old, new) for k in keys if k not in names and old.get(k) != new.get(k)]
    if told:
        raise LmsiError(
            f"{what} had other settings: {'; '.join(told)}",
            hint="give the old value, start over with `--overwrite`, or use another folder",
        )


def _names(key: str) -> list[str]:
    """Where the name of a hashed file may stand beside its hash, best first."""
    stem = key.removesuffix(HASH)
    return [f"{stem}_name", f"{stem}_file", stem]


def _difference(key: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    """Tell how a setting differs; a hash says nothing to a person, so files go by their names."""
    label, before, now = key.removesuffix(HASH), old.get(key, "not set"), new.get(key, "not set")
    if key.endswith(HASH):
        before, now = _file_name(key, old), _file_name(key, new)
        if before == now:
            return f"{label}: {now} has changed since"
    return f"{label}: {before} in the run folder, {now} now"


def _file_name(key: str, settings: dict[str, Any]) -> str:
    if key not in settings:
        return "none"
    return next((settings[n] for n in _names(key) if settings.get(n)), "the file")


def builtins_of(values: dict[str, Any]) -> dict[str, Any]:
    """Bring settings to what TOML can hold: no None, lists for tuples."""
    plain = msgspec.to_builtins({k: v for k, v in values.items() if v is not None})
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}
