"""Pictures of a leaderboard as SVG; the same numbers give the same file.

Colours are Okabe and Ito's, which people with any colour vision tell apart; dashes change where
they come round again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rpp_agents.benchmark.leaderboard import BEST_FIXED, ORACLE, PLACEBO, Leaderboard
from rpp_agents.evaluation.picture_style import PICTURE_STYLE
from rpp_agents.evaluation.statistics import Interval
from rpp_env.files import atomic_write

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_DRAWN_BOUNDS = (BEST_FIXED, ORACLE, PLACEBO)
_BOUND_COLOUR = "#666666"
_STYLE = {**PICTURE_STYLE, "axes.grid": True, "grid.color": "#e6e6e6", "axes.axisbelow": True}


def save_curves(board: Leaderboard, path: Path) -> None:
    """Test NDCG@10 against LLM calls: the mean of seeds, and the middle 80 % of them as a band."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.0, 4.8), layout="constrained")
        axes = figure.subplots()
        for i, row in enumerate(board.rows):
            curve, colour = row.curve, _COLOURS[i % len(_COLOURS)]
            dash = _DASHES[i // len(_COLOURS) % len(_DASHES)]
            axes.fill_between(
                curve.llm_calls, curve.low, curve.high, color=colour, alpha=0.12, lw=0
            )
            axes.plot(curve.llm_calls, curve.mean, color=colour, linestyle=dash, lw=1.6)
        for name in _DRAWN_BOUNDS:
            axes.axhline(
                board.line(name).mean.mean, color=_BOUND_COLOUR, lw=1.0, linestyle=(0, (6, 3))
            )
        axes.set_xlim(left=0, right=max(row.curve.llm_calls[-1] for row in board.rows))
        axes.set_xlabel("LLM calls while training")
        axes.set_ylabel("NDCG@10 of test users")
        axes.xaxis.set_major_formatter(lambda calls, _: f"{calls:,.0f}")
        _label_ends(axes, board)
        _save(figure, path)


def save_intervals(board: Leaderboard, path: Path) -> None:
    """Each row's mean under both rules, and a random policy's under its critic, with intervals."""
    with mpl.rc_context(_STYLE):
        height = 2.2 + 0.4 * len(board.rows)
        figure = Figure(figsize=(8.0, height), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(board.rows):
            _dot(axes, row.last, place + 0.22, colour=_COLOURS[1], face="white")
            if row.critic is not None:
                _dot(axes, row.critic, place - 0.22, colour=_COLOURS[0], face=_COLOURS[0])
            if row.random_under_critic is not None:
                _dot(axes, row.random_under_critic, place, colour=_COLOURS[3], face="white")
        _label_bounds(axes, board)
        axes.set_yticks(range(len(board.rows)), [row.name for row in board.rows])
        axes.set_ylim(len(board.rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("NDCG@10 of test users, 95 % intervals")
        random_label = "random policy, this critic chooses"
        handles = [
            axes.plot([], [], "o", color=_COLOURS[0], label="critic rule")[0],
            axes.plot([], [], "o", color=_COLOURS[3], mfc="white", label=random_label)[0],
            axes.plot([], [], "o", color=_COLOURS[1], mfc="white", label="last rule")[0],
        ]
        figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False)
        _save(figure, path)


def _dot(axes: Axes, found: Interval, place: float, *, colour: str, face: str) -> None:
    axes.plot([found.low, found.high], [place, place], color=colour, lw=1.6)
    axes.plot([found.mean], [place], "o", color=colour, mfc=face, ms=5.5)


def _label_bounds(axes: Axes, board: Leaderboard) -> None:
    """Vertical lines, named above the picture, each a storey higher so that names do not meet."""
    lines = sorted((line for line in board.lines), key=lambda line: (line.mean.mean, line.name))
    for i, line in enumerate(lines):
        axes.axvline(line.mean.mean, color=_BOUND_COLOUR, lw=1.0, linestyle=(0, (6, 3)), zorder=0.6)
        axes.annotate(
            f"{line.name} {line.mean.mean:.3f}",
            (line.mean.mean, 1.0),
            xytext=(0, 4 + 11 * i),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_BOUND_COLOUR,
        )


def _label_ends(axes: Axes, board: Leaderboard) -> None:
    """Names beside the right ends of the lines, moved apart where they would overlap."""
    ends: list[tuple[float, str, Any]] = [
        (row.curve.mean[-1], row.name, _COLOURS[i % len(_COLOURS)])
        for i, row in enumerate(board.rows)
    ]
    ends += [(board.line(name).mean.mean, name, _BOUND_COLOUR) for name in _DRAWN_BOUNDS]
    ends.sort(key=lambda end: end[:2])
    low, high = axes.get_ylim()
    places = spread([end[0] for end in ends], gap=0.042 * (high - low), high=high)
    beside = axes.get_yaxis_transform()  # x as a fraction of the axes, y as data
    for place, (end, name, colour) in zip(places, ends, strict=True):
        axes.annotate(
            name,
            (1.0, end),
            xytext=(1.025, place),
            xycoords=beside,
            textcoords=beside,
            va="center",
            fontsize=8,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 1, "shrinkB": 0},
        )


def spread(places: Sequence[float], *, gap: float, high: float) -> list[float]:
    """Moves ascending places apart to at least `gap`, and below `high`."""
    moved = list(places)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    ceiling = high
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
