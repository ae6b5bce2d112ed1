"""What a person reads: the table of scores, and one user's episode."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rpp_agents.base import Agent
from rpp_agents.evaluation.scoreboard import Scoreboard
from rpp_agents.evaluation.statistics import Interval
from rpp_env import PromptMDP
from rpp_env.files import atomic_write
from rpp_env.types import PATTERNS, PromptState


def scoreboard_table(scoreboard: Scoreboard) -> RenderableType:
    """The table of `rpp evaluate`."""
    table = Table(
        title=f"NDCG on {scoreboard.num_users} {scoreboard.split} users, seed {scoreboard.seed}",
        caption=(
            "\\[95 % bootstrap interval over users]; gain: NDCG@10 over the best fixed prompt, "
            "paired by user.\nrecognised: candidates that the LLM really ranked. LLM calls: "
            "prompts sent for a row, those\nanswered before not again; "
            f"{scoreboard.training_llm_calls} were sent in training."
        ),
        caption_justify="left",
    )
    for header in ("", "", "@1", "@5", "@10", "gain", "recognised", "LLM calls"):
        table.add_column(header, justify="left" if not header else "right", no_wrap=True)
    for row in scoreboard.rows:
        table.add_row(
            row.name,
            row.note,
            f"{row.ndcg[1].mean:.3f}",
            f"{row.ndcg[5].mean:.3f}",
            _interval(row.ndcg[10]),
            "" if row.gain is None else _interval(row.gain, sign="+"),
            "" if row.recognised is None else f"{row.recognised:.0%}",
            "" if row.llm_calls is None else str(row.llm_calls),
        )
    return table


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
    console = Console(width=140, record=True, file=io.StringIO(), markup=False, emoji=False)
    console.print(renderable)
    # Rich refers to a font on the network; a picture should need nothing but itself.
    picture = re.sub(
        r"@font-face \{.*?\}\s*", "", console.export_svg(title="rpp evaluate"), flags=re.S
    )
    with atomic_write(path) as file:
        file.write(picture.encode())


def _interval(interval: Interval, *, sign: str = "") -> str:
    numbers = [f"{value:{sign}.3f}" for value in (interval.mean, interval.low, interval.high)]
    if interval.low == interval.high:
        return numbers[0]
    return f"{numbers[0]} \\[{numbers[1]}, {numbers[2]}]"


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
