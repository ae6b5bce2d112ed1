"""Fingerprints as an SVG: a panel per agent, a bar per axis. Equal numbers give an equal file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rpp_agents.diagnosis.fingerprint import Fingerprint
from rpp_agents.evaluation.picture_style import PICTURE_STYLE
from rpp_env.files import atomic_write

_LAST, _LEVEL, _CRITIC, _GREY = "#56B4E9", "#0072B2", "#D55E00", "#666666"
_LOWEST: Final = -0.25  # scores below are drawn at the edge
_PER_ROW: Final = 4
_STYLE = {**PICTURE_STYLE, "axes.spines.left": False}


def save_fingerprints(fingerprints: Sequence[Fingerprint], path: Path) -> None:
    """Draws 0 (the random policy) to 1 (the optimum) on every axis, for each agent."""
    columns = min(_PER_ROW, len(fingerprints))
    rows = -(-len(fingerprints) // columns)
    height = 1.2 + rows * (0.6 + 0.3 * len(fingerprints[0].levels))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(1.6 + 2.5 * columns, height), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, fingerprint in zip(panels, fingerprints, strict=False):
            _draw(axes, fingerprint)
        for axes in panels[len(fingerprints) :]:
            axes.set_visible(False)
        handles = [
            Patch(color=_LAST, label="last rule, mean of levels"),
            Line2D([], [], ls="", marker="|", color=_LEVEL, label="last rule, one level"),
            Line2D([], [], ls="", marker="D", mfc="white", color=_CRITIC, label="critic rule"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        with atomic_write(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})


def _draw(axes: Axes, fingerprint: Fingerprint) -> None:
    names = list(fingerprint.levels)
    last, critic = fingerprint.by_axis("last"), fingerprint.by_axis("critic")
    for place, name in enumerate(names):
        axes.barh(place, 1.0, height=0.72, color="#f2f2f2", zorder=0)
        mean = last[name]
        if mean is None:
            axes.text(0.02, place, "cannot run", va="center", color=_GREY, fontsize=8)
            continue
        axes.barh(place, max(mean, _LOWEST), height=0.72, color=_LAST, zorder=1)
        levels = [each.last.mean for each in fingerprint.levels[name].values() if each.last]
        shown = np.maximum(levels, _LOWEST)
        axes.plot(shown, [place] * len(shown), "|", color=_LEVEL, ms=9, mew=1.6, zorder=2)
        by_critic = critic[name]
        if by_critic is not None:
            shown_at = max(by_critic, _LOWEST)
            axes.plot([shown_at], [place], "D", color=_CRITIC, mfc="white", ms=5, zorder=3)
    for score in (0.0, 1.0):
        axes.axvline(score, color=_GREY, lw=0.8, zorder=1.5)
    axes.set_title(fingerprint.agent, loc="left", fontweight="bold", fontsize=10)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([0.0, 0.5, 1.0], ["0\nrandom", "0.5", "1\noptimum"])
    axes.tick_params(axis="x", labelbottom=True)
    axes.set_xlim(_LOWEST - 0.02, 1.05)
    axes.set_ylim(len(names) - 0.5, -0.5)
