"""A leaderboard as Markdown."""

from collections.abc import Callable, Mapping

from rpp_agents.benchmark.leaderboard import BoundRow, Leaderboard, LeaderboardRow
from rpp_agents.evaluation.headroom import Headroom
from rpp_agents.evaluation.headroom_rows import headroom_rows
from rpp_agents.evaluation.statistics import Interval

_NONE = "-"


def to_markdown(board: Leaderboard) -> str:
    """The table, what its columns mean, and how it was made."""
    ablation = board.study == "ablation"
    recording, agents = board.options["recording"], board.options["agents"]
    title = f"Ablation of {agents} on {recording}" if ablation else f"Leaderboard of {recording}"
    parts = [
        f"# {title}",
        f"NDCG@10 on {board.num_users} test users, {len(board.seeds)} seeds. Square brackets: "
        "95 % bootstrap intervals over seeds and users.",
        _table(_ABLATION if ablation else _LEADERBOARD, board),
        _EXPLANATION,
    ]
    if any(row.random_under_critic is not None for row in board.rows):
        parts.append(_RANDOM_EXPLANATION)
    if ablation:
        parts.append(_ABLATION_EXPLANATION)
    parts += [_headroom(board.headroom)]
    parts += [f"## How it was made\n\n{_provenance(board)}"]
    return "\n\n".join(parts) + "\n"


def interval(found: Interval | None, *, signed: bool = False) -> str:
    """An interval for people; a dash for none."""
    if found is None:
        return _NONE
    sign = "+" if signed else ""
    if found.low == found.mean == found.high:
        return f"{found.mean:{sign}.4f}"
    return f"{found.mean:{sign}.4f} [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"


_LEADERBOARD: dict[str, Callable[[LeaderboardRow], str]] = {
    "agent": lambda row: row.name,
    "IQM": lambda row: interval(row.iqm),
    "last rule": lambda row: interval(row.last),
    "critic rule": lambda row: interval(row.critic),
    "random policy, its critic": lambda row: interval(row.random_under_critic),
    "critic rule - random": lambda row: interval(row.gain_over_random, signed=True),
    "gain over best fixed": lambda row: interval(row.gain, signed=True),
    "P(better than best fixed)": lambda row: interval(row.improvement),
    "best try": lambda row: f"{row.best_try:.4f}",
    "regret to oracle": lambda row: f"{row.regret_to_oracle:.4f}",
    "regret to best fixed": lambda row: f"{row.regret_to_best_fixed:+.4f}",
    "LLM calls (until kept)": lambda row: f"{row.llm_calls:,} ({row.kept_at:,.0f})",
    "seconds": lambda row: f"{row.seconds['total']:.1f}",
}
_ABLATION: dict[str, Callable[[LeaderboardRow], str]] = {
    "variant": lambda row: row.name,
    "last rule": lambda row: interval(row.last),
    "change": lambda row: interval(row.change_last, signed=True),
    "critic rule": lambda row: interval(row.critic),
    "change (critic)": lambda row: interval(row.change_critic, signed=True),
    "random policy, its critic": lambda row: interval(row.random_under_critic),
    "critic rule - random": lambda row: interval(row.gain_over_random, signed=True),
    "IQM": lambda row: interval(row.iqm),
    "gain over best fixed": lambda row: interval(row.gain, signed=True),
    "P(better than best fixed)": lambda row: interval(row.improvement),
    "LLM calls (until kept)": lambda row: f"{row.llm_calls:,} ({row.kept_at:,.0f})",
    "seconds": lambda row: f"{row.seconds['total']:.1f}",
}
_EXPLANATION = """\
- **last rule**: the ranking of an episode's last step counts. **critic rule**: that of the step
  whose state the agent's critic values most. Neither knows the target. IQM, gain and P are under
  the critic rule, and under the last rule where there is no critic.
- **IQM**: interquartile mean of all seed-by-user scores (Agarwal et al. 2021, arXiv 2108.13264).
- **gain over best fixed**: difference of means, paired by user. **P(better than best fixed)**:
  probability that a run beats the best fixed prompt on a user, ties counting half.
- **oracle** takes each user's best prompt after seeing the target. Its **placebo** is the same
  maximum for candidates that are not the target, with the same mean over prompts: what of the
  oracle is luck.
- **best try**: the best ranking of each episode; needs the target (oracle).
- **regret**: mean reward missed per training step, with steps of exploration.
- **LLM calls**: prompts per seed that training would send without a recording, and how many of them
  were sent until the agent that was kept. **seconds**: wall time of a seed, training and measuring.
- Each seed's agent is the one that scored highest on validation users while it trained.
- The best fixed prompt is chosen by its exact mean over all train users, and the random prompt is
  the exact mean over all prompts."""
_RANDOM_EXPLANATION = """\
- **random policy, its critic**: a uniformly random policy, of whose rankings the agent's critic
  keeps the one that it values most. **critic rule - random**: what the agent's own choices add to
  that, paired by user."""
_ABLATION_EXPLANATION = """\
- **change**: difference of means from the first row, paired by user, under either rule.
- Shorter horizons have more episodes an iteration: all variants take about as many LLM calls."""


def _table(columns: Mapping[str, Callable[[LeaderboardRow], str]], board: Leaderboard) -> str:
    cells = [
        *([_bound(line).get(name, _NONE) for name in columns] for line in board.lines),
        *(
            [f"**{row.name}**", *(show(row) for show in list(columns.values())[1:])]
            for row in board.rows
        ),
    ]
    # A column that is empty for every row says nothing.
    shown = [i for i in range(len(columns)) if any(row[i] != _NONE for row in cells)]
    names = list(columns)
    lines = [
        [names[i] for i in shown],
        ["---", *["---:"] * (len(shown) - 1)],
        *([row[i] for i in shown] for row in cells),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bound(line: BoundRow) -> dict[str, str]:
    name = f"{line.name} ({line.note})"
    return {
        "agent": name,
        "variant": name,
        "IQM": interval(line.iqm),
        "last rule": interval(line.mean),
        "gain over best fixed": interval(line.gain, signed=True),
    }


def _headroom(headroom: Headroom) -> str:
    rows = [
        f"| {row.name} | {row.note} | {row.value} | {row.interval} |"
        for row in headroom_rows(headroom)
    ]
    return "\n\n".join(
        [
            "## Headroom",
            f"**{headroom.verdict}**",
            "\n".join(["| | | | 95 % interval |", "| --- | --- | ---: | ---: |", *rows]),
            f"Of all {headroom.num_instances} instances of {headroom.num_users} users, with "
            f"{headroom.num_prompts} prompts each; intervals over users.",
        ]
    )


def _provenance(board: Leaderboard) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in board.versions.items())
    facts = {
        "commit": board.commit or "unknown (not run from a git repository)",
        "cores": board.cores,
        "versions": versions,
        "seeds": ", ".join(map(str, board.seeds)),
        "options": ", ".join(f"{name} {value}" for name, value in board.options.items()),
        "sentences of the best fixed prompt": ", ".join(map(str, board.best_choices)),
    }
    return "\n".join(
        [f"    {board.command}", "", *(f"- {name}: {value}" for name, value in facts.items())]
    )
