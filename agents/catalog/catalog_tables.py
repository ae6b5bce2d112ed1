"""What a person reads of a catalog: bounds, sentences, wasted pairs, and some prompts whole."""

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rpp_agents.catalog.catalog_report import CatalogReport, PatternReport
from rpp_agents.evaluation.headroom import NUM_TRIES
from rpp_agents.evaluation.headroom_table import headroom_table
from rpp_env import PromptMDP
from rpp_env.types import IntArray

_MOST_CHARACTERS = 60
_WIDTH = 90


def report_tables(report: CatalogReport) -> RenderableType:
    """The tables of `rpp catalog check`."""
    return Group(
        _bounds(report),
        *(_pattern(each) for each in report.patterns),
        _closing(report),
        *([] if report.headroom is None else [headroom_table(report.headroom)]),
    )


def prompts_whole(
    mdp: PromptMDP, instance_ids: IntArray, *, num_prompts: int, seed: int = 0
) -> RenderableType:
    """Random prompts for one random user of these, none twice, as the LLM is shown them."""
    rng = np.random.default_rng((seed, 4))
    instance_id = int(rng.choice(instance_ids))
    sizes = mdp.catalog.num_choices
    drawn = rng.permutation(int(np.prod(sizes)))[:num_prompts]
    longest = int(mdp.instances.history_lengths[instance_id])
    panels = []
    for row in drawn:
        choices = np.array(np.unravel_index(row, sizes))
        length = min(mdp.catalog.history_records[choices[1]].records, longest)
        prompt = mdp.renderer.render(instance_id, choices, length)
        title = f"user {mdp.instances.users[instance_id]}, sentences {_listed(choices)}"
        if prompt.chat:
            parts = (f"[system] {prompt.system}", f"[user] {prompt.user}")
            text = "\n".join((*parts, f"[assistant] {prompt.answer_prefix}"))
        else:
            text = prompt.text
        panels.append(Panel(Text(text), title=Text(title), title_align="left"))
    return Group(*panels)


def _bounds(report: CatalogReport) -> Table:
    bounds = report.bounds
    table = Table(
        title=f"{report.catalog}: NDCG@10 of {report.num_prompts} prompts on "
        f"{report.num_instances} instances of {report.num_users} train users",
        caption=(
            f"recognised: {report.recognised:.0%} of the candidates. The best fixed prompt is "
            f"{_listed(bounds.best_choices)}: "
            f"{' | '.join(_short(text) for text in bounds.best_sentences)}"
        ),
        caption_justify="left",
    )
    table.add_column("")
    table.add_column("")
    table.add_column("@10", justify="right")
    held_out, headroom = bounds.best_fixed_held_out, report.headroom
    of_tries = None if headroom is None else headroom.placebo_oracle_of_tries
    of_all = None if headroom is None else headroom.placebo_oracle
    other = "non-target candidates"
    rows = (
        ("chance", "exact", bounds.chance),
        ("mean over all prompts", "", bounds.random),
        ("best fixed prompt", "chosen on half of the users, scored on the others", held_out),
        ("best fixed prompt", "chosen on these very users", bounds.best_fixed),
        (f"agreement, {NUM_TRIES} random tries", "embedding chooses", bounds.agreement_of_tries),
        ("agreement, every prompt", "embedding chooses", bounds.agreement),
        (f"oracle, {NUM_TRIES} random tries", "knows the target", bounds.oracle_of_tries),
        (f"its placebo, {NUM_TRIES} random tries", other, of_tries),
        ("oracle, every prompt", "knows the target", bounds.oracle),
        ("its placebo, every prompt", other, of_all),
        ("gap: oracle - best fixed", "luck included: see the placebo", bounds.gap),
        ("LightGCN alone", "no LLM, for scale", bounds.lightgcn),
    )
    for name, note, value in rows:
        table.add_row(name, note, "" if value is None else f"{value:.3f}")
    return table


def _pattern(report: PatternReport) -> Table:
    table = Table(
        title=f"{report.pattern}: explains {report.effect:.0%} of the variance within instances",
        min_width=_WIDTH,
    )
    table.add_column("", justify="right")
    table.add_column("sentence", overflow="fold")
    for header in ("@10", "best", *map(str, range(len(report.sentences)))):
        table.add_column(header, justify="right", no_wrap=True)
    rows = zip(report.sentences, report.ndcg, report.best_share, report.spearman, strict=True)
    for i, (sentence, ndcg, share, correlations) in enumerate(rows):
        table.add_row(
            str(i),
            Text(_short(sentence)),
            f"{ndcg:.3f}",
            f"{share:.0%}",
            *("" if j == i else f"{value:.2f}" for j, value in enumerate(correlations)),
        )
    return table


def _closing(report: CatalogReport) -> Text:
    text = Text(
        "best: share of instances whose best prompt has the sentence. 0, 1, ...: mean Spearman "
        "correlation of its\nrankings with those of that sentence, all other choices equal.\n"
        f"All patterns together explain {sum(each.effect for each in report.patterns):.0%} of the "
        "variance; the rest is in how they combine.\n"
        f"{report.distinct_rankings:.1f} different rankings of {report.num_prompts} an instance; "
        f"mean Spearman of two random prompts {report.mean_spearman:.2f}.\n"
    )
    for pair in report.wasted:
        text.append(
            f"{pair.pattern}: rankings of {pair.first} and {pair.second} equal each other "
            f"({pair.spearman:.2f}): replace one\n",
            style="bold yellow",
        )
    if not report.wasted:
        text.append(f"No two sentences' rankings agree above {report.threshold:.2f}.\n")
    return text


def _listed(choices: IntArray | tuple[int, ...]) -> str:
    return "(" + ", ".join(str(int(choice)) for choice in choices) + ")"


def _short(sentence: str) -> str:
    line = " / ".join(sentence.splitlines()) or "(nothing)"
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"
