"""Text of an episode for a person: the prompt, its ranking, its reward."""

from typing import Final

import numpy as np

from rpp_env.errors import OptionError, RppError, did_you_mean
from rpp_env.mdp.episodes import Episodes
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.rewards import target_ranks
from rpp_env.types import Prompt, PromptState

RENDER_MODES: Final = ("human", "ansi")


def check_render_mode(render_mode: str | None) -> str | None:
    """Returns `render_mode`; OptionError unless it is None or one of `RENDER_MODES`."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise OptionError(  # SB3's make_vec_env tries 'rgb_array' first
            f"render_mode={render_mode!r} is no mode. "
            f"{did_you_mean(str(render_mode), RENDER_MODES)}"
        )
    return render_mode


def current_prompt(mdp: PromptMDP, state: PromptState, row: int) -> Prompt:
    """Returns the current prompt of one episode; RppError before its first step."""
    if state.steps[row] == 0:
        raise RppError("there is no prompt before the first step of an episode")
    return mdp.renderer.render(
        int(state.instance_ids[row]), state.choices[row], int(state.history_lengths[row])
    )


def ranked_titles(mdp: PromptMDP, state: PromptState, row: int) -> tuple[str, ...]:
    """Returns the titles of one episode's candidates, best first. RppError before a step."""
    if state.steps[row] == 0:
        raise RppError("there is no ranking before the first step of an episode")
    titles = mdp.renderer.candidate_titles(int(state.instance_ids[row]))
    return tuple(titles[slot] for slot in state.rankings[row])


def describe(mdp: PromptMDP, state: PromptState, row: int) -> str:
    """Returns the current state of one episode as text; a star marks the target."""
    if state.steps[row] == 0:
        return "no prompt yet"
    one = state.select(np.array([row]))
    rank = int(target_ranks(one.rankings, mdp.instances.target_slots[one.instance_ids])[0])
    lines = [
        f"step {one.steps[0]} of {mdp.horizon}, reward {float(mdp.reward(one)[0]):.3f}",
        current_prompt(mdp, state, row).text,
        *(
            f"{'*' if place == rank else ' '} {place + 1}. {title}"
            for place, title in enumerate(ranked_titles(mdp, state, row))
        ),
    ]
    return "\n".join(lines)


def render(episodes: Episodes, render_mode: str | None) -> tuple[str, ...]:
    """Returns (``ansi``) or prints (``human``) the `describe` of each episode; () for None."""
    if render_mode is None:
        return ()
    state = episodes.state
    texts = tuple(describe(episodes.mdp, state, row) for row in range(len(state)))
    if render_mode == "ansi":
        return texts
    for text in texts:
        print(text)  # noqa: T201 -- writing to the terminal is what this mode is for
    return ()
