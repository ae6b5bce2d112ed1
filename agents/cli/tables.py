"""What a person reads: the table of scores, and one user's episode."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rpp_agents.base import Agent
from rpp_agents.benchmark.leaderboard import Leaderboard
from rpp_agents.diagnosis.fingerprint import Fingerprint
from rpp_agents.evaluation.headroom_table import headroom_table
from rpp_agents.evaluation.scoreboard import Scoreboard
from rpp_agents.evaluation.statistics import Interval, bootstrap_scores
from rpp_agents.protocol.comparison import compare_all, performance_profile, smallest_difference
from rpp_env import PromptMDP
from rpp_env.files import atomic_write
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.types import PATTERNS, FloatArray, PromptState

WIDTH: Final = 80  # columns that every table fits in


def scoreboard_table(scoreboard: Scoreboard) -> RenderableType:
    """The table of `rpp evaluate`: two lines per row, 80 columns."""
    table = _score_table(
        f"NDCG on {scoreboard.num_users} {scoreboard.split} users, seed {scoreboard.seed}",
        ("@1", "@5", "@10\n95 % interval", "gain\n95 % interval", "LLM calls\nrecognised"),
    )
    for row in scoreboard.rows:
        method, _, detail = row.name.partition(", ")
        table.add_row(
            _two_lines(method, detail or row.note),
            f"{row.ndcg[1].mean:.3f}",
            f"{row.ndcg[5].mean:.3f}",
            _interval(row.ndcg[10]),
            _interval(row.gain, sign="+"),
            ""
            if row.llm_calls is None or row.recognised is None
            else _two_lines(f"{row.llm_calls:,}", f"{row.recognised:.0%}"),
        )
    tries = next((row.note for row in scoreboard.rows if row.note.endswith(" tries")), None)
    return _with_caption(
        table,
        "Oracles know the target; the placebo is the same for candidates that are not the target.",
        f"The critic chooses one {tries}." if tries else "",
        "Intervals: bootstrap over users.",
        "Gain: of NDCG@10 over the best fixed prompt, paired by user.",
        "LLM calls: distinct prompts asked for; those of a row above do not count again.",
        f"Training asked for {scoreboard.training_llm_calls:,}.",
        f"Requests that really went out: {scoreboard.requests:,},",
        f"in training {scoreboard.training_requests:,}.",
        "Recognised: candidates that the LLM itself ranked.",
    )


def leaderboard_table(board: Leaderboard) -> RenderableType:
    """The table of `rpp benchmark`: two lines per row, 80 columns; the page has more columns."""
    ablation = board.study == "ablation"
    names = ("mean", "change", "gain") if ablation else ("IQM", "mean", "gain", "P(better)")
    table = _score_table(
        f"NDCG@10 on {board.num_users} test users, {len(board.seeds)} seeds",
        [f"{name}\n95 % interval" for name in names],
    )
    for line in board.lines:
        cells = {
            "IQM": _interval(line.iqm),
            "mean": _interval(line.mean),
            "gain": _interval(line.gain, sign="+"),
        }
        table.add_row(
            _two_lines(*line.name.partition(", ")[::2]), *(cells.get(name, "") for name in names)
        )
    for row in board.rows:
        change = row.change_last if row.critic is None else row.change_critic
        cells = {
            "IQM": _interval(row.iqm),
            "mean": _interval(row.score),
            "change": _interval(change, sign="+"),
            "gain": _interval(row.gain, sign="+"),
            "P(better)": _interval(row.improvement),
        }
        table.add_row(
            _two_lines(row.name, f"{row.rule} rule", style="bold"),
            *(cells[name] for name in names),
        )
        if row.random_under_critic is not None:
            table.add_row(
                _two_lines("random policy", f"critic of {row.name}"),
                *(_interval(row.random_under_critic) if name == "mean" else "" for name in names),
            )
    scores = _with_caption(
        table,
        "The oracle knows the target; its placebo is the same for candidates that are not the "
        "target. Chance is exact. Random prompt: the mean of all prompts.",
        "Change: of the mean from the first variant, paired by user."
        if ablation
        else "IQM: interquartile mean.",
        "Gain: of the mean over the best fixed prompt, paired by user.",
        "" if ablation else "P(better): probability that a run beats that prompt on a user.",
        "Random policy, critic of an agent: uniformly random prompts, of which that critic keeps "
        "one. An agent that is no better owes its score to its critic.",
        "Intervals: bootstrap over seeds and users.",
    )
    return Group(scores, "", headroom_table(board.headroom))


def fingerprint_table(fingerprints: Sequence[Fingerprint]) -> RenderableType:
    """The table of `rpp diagnose`: axes by agents, the last rule above the critic rule."""
    table = _score_table(
        "The planted suite: 0 is random, 1 the optimum", [each.agent for each in fingerprints]
    )
    for axis in fingerprints[0].levels:
        scores = [
            (each.by_axis("last")[axis], each.by_axis("critic")[axis]) for each in fingerprints
        ]
        table.add_row(
            axis,
            *(
                Text("cannot run", "dim")
                if last is None
                else _two_lines(f"{last:.2f}", "" if critic is None else f"{critic:.2f}")
                for last, critic in scores
            ),
        )
    return _with_caption(
        table,
        "Means over the levels of an axis: last rule, and below it the critic rule.",
        "Seconds of the suite per seed: "
        + ", ".join(f"{each.agent} {each.seconds:,.0f}" for each in fingerprints)
        + ".",
    )


def protocol_tables(title: str, scores: Mapping[str, FloatArray]) -> list[RenderableType]:
    """The tables of `rpp submit compare` for one task and budget.

    Args:
        title: Of the first table.
        scores: NDCG@10 by agent. Shape of each: (S, U).
    """
    places = (1, 2, 3, 5)
    means = _score_table(title, ["mean\n95 % interval", *(f"top {place}" for place in places)])
    for name, each in scores.items():
        thresholds = ndcg_of_ranks(np.array(places) - 1, k=10)
        profile = performance_profile(each, thresholds)
        means.add_row(name, _interval(bootstrap_scores(each)), *(f"{part:.0%}" for part in profile))
    pairs = _score_table("Differences", ["gain\n95 % interval", "p", "Holm's p", "found if"])
    for pair in compare_all(scores):
        paired = scores[pair.name].mean(axis=0) - scores[pair.other].mean(axis=0)
        smallest = smallest_difference(float(paired.std(ddof=1)), len(paired))
        pairs.add_row(
            _two_lines(
                pair.name, f"over {pair.other}", style="bold" if pair.is_significant else ""
            ),
            _interval(pair.gain, sign="+"),
            f"{pair.p_value:.4f}",
            f"{pair.corrected:.4f}",
            f"{smallest:.3f}",
        )
    return [
        _with_caption(
            means,
            "Top k: fraction of seeds and users whose NDCG@10 is that of place k or better",
            "(performance profile). Intervals: bootstrap over seeds and users.",
        ),
        _with_caption(
            pairs,
            "Gain: paired by user. p: random sign flips of users; Holm's p allows for all pairs.",
            "Bold: below 5 %. Found if: a true difference of this size is found in 80 % of",
            "comparisons with as many users, before the correction.",
        ),
    ]


def _with_caption(table: Table, *sentences: str) -> RenderableType:
    return Group(table, "", Text(" ".join(filter(None, sentences)), style="italic"))


def _score_table(title: str, columns: Sequence[str]) -> Table:
    """An empty table whose first column names the method, and whose others are numbers."""
    table = Table(
        title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0), leading=1
    )
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _two_lines(first: str, second: str, *, style: str = "") -> Text:
    """A cell of two lines, the second one dim."""
    return Text.assemble((first, style), "\n", (second, "dim"))


def _interval(interval: Interval | None, *, sign: str = "") -> Text:
    """A cell with the mean, and the interval below it unless it is exact."""
    if interval is None:
        return Text("")
    mean, low, high = (f"{v:{sign}.3f}" for v in (interval.mean, interval.low, interval.high))
    return _two_lines(mean, "" if interval.low == interval.high else f"[{low}, {high}]")


def usage_table(usage: Mapping[str, float]) -> RenderableType:
    """What a run has cost, by name; zeros are left out."""
    table = Table(title="What it has cost", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in usage.items():
        if value:
            whole = name != "cost" and not name.startswith("seconds")
            table.add_row(name.replace("_", " "), f"{value:,.0f}" if whole else f"{value:,.2f}")
    return table


def save_svg(renderable: RenderableType, path: Path) -> None:
    """Writes what a terminal would show as an SVG."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), markup=False, emoji=False)
    console.print(renderable)
    # Rich refers to a font on the network; a picture should need nothing but itself.
    picture = re.sub(
        r"@font-face \{.*?\}\s*", "", console.export_svg(title="rpp evaluate"), flags=re.S
    )
    with atomic_write(path) as file:
        file.write(picture.encode())


def episode_panels(mdp: PromptMDP, agent: Agent, instance_id: int) -> RenderableType:
    """One user's episode: the sentences of each step, the ranking, the target marked, the reward.

    Args:
        mdp: The dynamics.
        agent: Acts, as it does when it is evaluated.
        instance_id: The ranking problem.
    """
    state = mdp.initial(np.array([instance_id]))
    steps: list[RenderableType] = [_history(mdp, instance_id)]
    values = []
    while not mdp.truncated(state).any():
        seen = mdp.observation(state)
        own = {pattern: mdp.encoder.for_agent(seen, pattern) for pattern in PATTERNS}
        decision = agent.act(own, seen, explore=agent.explores_in_evaluation)
        state = mdp.transition(state, decision.actions)
        value = float(agent.values(mdp.observation(state))[0])
        values.append(value)
        steps.append(_step(mdp, state, value))
    kept = (
        ""
        if np.isnan(values).any()
        else (f" The critic rule keeps step {int(np.argmax(values)) + 1}.")
    )
    steps.append(Text(f"The last rule keeps step {len(values)}.{kept}", style="bold"))
    return Group(*steps)


def _history(mdp: PromptMDP, instance_id: int) -> RenderableType:
    everything = int(mdp.instances.history_lengths[instance_id])
    titles = mdp.renderer.history_titles(instance_id, everything)
    user = mdp.instances.users[instance_id]
    return Panel(Text(", ".join(titles)), title=f"user {user}: the latest {everything} records")


def _step(mdp: PromptMDP, state: PromptState, value: float) -> RenderableType:
    choices = state.choices[0]
    sentences = Table.grid(padding=(0, 1))
    sentences.add_column(style="dim", no_wrap=True)
    sentences.add_column(overflow="fold", ratio=1)
    for pattern, choice in zip(PATTERNS, choices, strict=True):
        text = mdp.catalog.sentences(pattern)[choice] or "(nothing)"
        if pattern == "history_records":
            text += f"  [{state.history_lengths[0]} records]"
        sentences.add_row(pattern, Text(text))
    instance_id = int(state.instance_ids[0])
    titles = mdp.renderer.candidate_titles(instance_id)
    target = int(mdp.instances.target_slots[instance_id])
    ranking = Text()
    for place, slot in enumerate(state.rankings[0]):
        marked = slot == target
        ranking.append(
            f"{'>' if marked else ' '}{place + 1:3d}. {titles[slot]}\n",
            style="bold green" if marked else "",
        )
    columns = Table.grid(padding=(0, 3))
    columns.add_column(ratio=3)
    columns.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
    columns.add_row(sentences, ranking)
    valued = "" if np.isnan(value) else f", critic value {value:.3f}"
    reward = float(mdp.reward(state)[0])
    return Panel(columns, title=f"step {state.steps[0]}: reward {reward:.3f}{valued}")
