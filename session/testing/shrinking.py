"""From a failing schedule to a small one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def shrink_deviations(
    fails: Callable[[Mapping[int, int]], bool], deviations: Mapping[int, int]
) -> dict[int, int]:
    """Drop deviations from FIFO order for as long as ``fails`` still says yes.

    This is delta debugging: it tries to leave out halves, then quarters, down to single ones. The
    result still fails, and leaving out any single deviation of it does not. ``fails`` is called
    once for each attempt and should run the program under ``Deviations(attempt)``; shrink the
    *workload* first, since every attempt costs a run.
    """
    kept = dict(deviations)
    if fails({}):
        return {}
    size = max(1, len(kept) // 2)
    while True:
        smaller = _without_one_group(fails, kept, size)
        if smaller is not None:
            kept = smaller
            size = max(1, min(size, len(kept) // 2))
        elif size > 1:
            size //= 2
        else:
            return kept


def _without_one_group(
    fails: Callable[[Mapping[int, int]], bool], kept: dict[int, int], size: int
) -> dict[int, int] | None:
    points = sorted(kept)
    if len(points) <= 1:  # the empty schedule was tried first of all
        return None
    for start in range(0, len(points), size):
        dropped = set(points[start : start + size])
        attempt = {point: kept[point] for point in points if point not in dropped}
        if fails(attempt):
            return attempt
    return None
