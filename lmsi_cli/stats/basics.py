"""What all statistics share: the checks of their input, and bounds that hold their value.

Knows numpy and the records, no method. A question's cluster is any label that it shares with the
questions it resembles: variants of one template, or several about one text.

    cluster_sums([1.0, 0.0, 1.0], ["a", "a", "b"]) -> sums [1., 1.], sizes [2., 1.]
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmsi_cli.records import Interval

Floats: TypeAlias = NDArray[np.float64]
Groups: TypeAlias = Sequence[Hashable] | None

Z_TWO_SIDED = 1.959964  # normal quantile of 0.975: a two-sided test at 5%


def interval(value: float, low: float, high: float, n: int) -> Interval:
    """Build the record, so that rounding never leaves the value outside its own interval."""
    low, high = max(0.0, min(low, value)), min(1.0, max(high, value))
    return Interval(value=value, low=low, high=high, n=n)


def fractions(values: ArrayLike) -> Floats:
    """Take values in [0, 1].

    Raises:
        ValueError: A value is not.
    """
    array = np.asarray(values, dtype=np.float64)
    if not bool(((array >= 0) & (array <= 1)).all()):  # also refuses NaN
        raise ValueError("values must lie within [0, 1]")
    return array


def alike(first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> tuple[Floats, Floats]:
    """Take two sequences of one length; the second lies within [0, 1].

    Raises:
        ValueError: The lengths differ, or a value of the second is out of range.
    """
    x, y = np.asarray(first, dtype=np.float64), fractions(second)
    if x.shape != y.shape:
        raise ValueError(f"{len(x)} {names[0]}, {len(y)} {names[1]}")
    return x, y


def cluster_sums(values: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """Sum of the values and number of questions per cluster, in the order of first sight.

    Without labels every question is its own.

    Raises:
        ValueError: There is not one label per value.
    """
    if groups is None:
        return values, np.ones(len(values))
    if len(groups) != len(values):
        raise ValueError(f"{len(groups)} group labels, {len(values)} values")
    place: dict[Hashable, int] = {}
    index = np.array([place.setdefault(g, len(place)) for g in groups], dtype=np.int64)
    sums = np.bincount(index, weights=values, minlength=len(place))
    return sums.astype(np.float64), np.bincount(index, minlength=len(place)).astype(np.float64)
