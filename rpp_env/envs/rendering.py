"""Episodes as a person reads them: the prompt, its ranking, its reward."""

from typing import Final

import numpy as np

from rpp_env.errors import OptionError, RppError, did_you_mean
from rpp_env.mdp.episodes import Episodes
from rpp_env.mdp.prompt_mdp import PromptMDP
from rpp_env.rewards import target_ranks
from rpp_env.types import Prompt, PromptState

RENDER_MODES: Final = ("human", "ansi")


def check_render_mode(render_mode: str | None) -> str | None:
    """Returns `render_mode`; OptionError when it is neither None nor one of `RENDER_MODES`."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise OptionError(  # SB3's make_vec_env tries 'rgb_array' first
            f"render_mode={render_mode!r} is no mode. "
            f"{did_you_mean(str(render_mode), RENDER_MODES)}"
        )
    return render_mode


def prompt_of(mdp: PromptMDP, state: PromptState, row: int) -> Prompt:
    """The prompt of one episode, as the LLM was shown it; RppError before its first step."""
    if state.steps[row] == 0:
        raise RppError("there is no prompt before the first step of an episode")
    return mdp.renderer.render(
        int(state.instance_ids[row]), state.choices[row], int(state.history_lengths[row])
    )


def ranked_titles(mdp: PromptMDP, state: PromptState, row: int) -> tuple[str, ...]:
    """Titles of one episode's candidates, best first; RppError before its first step."""
    if state.steps[row] == 0:
        raise RppError("there is no ranking before the first step of an episode")
    titles = mdp.renderer.candidate_titles(int(state.instance_ids[row]))
    return tuple(titles[slot] for slot in state.rankings[row])


def describe(mdp: PromptMDP, state: PromptState, row: int) -> str:
    """One episode as it stands; a star marks the target."""
    if state.steps[row] == 0:
        return "no prompt yet"
    one = state.select(np.array([row]))
    rank = int(target_ranks(one.rankings, mdp.instances.target_slots[one.instance_ids])[0])
    lines = [
        f"step {one.steps[0]} of {mdp.horizon}, reward {float(mdp.reward(one)[0]):.3f}",
        prompt_of(mdp, state, row).text,
        *(
            f"{'*' if place == rank else ' '} {place + 1}. {title}"
            for place, title in enumerate(ranked_titles(mdp, state, row))
        ),
    ]
    return "\n".join(lines)


def render(episodes: Episodes, render_mode: str | None) -> tuple[str, ...]:
    """What each episode's `describe` says: returned (``ansi``), written (``human``) or not made."""
    if render_mode is None:
        return ()
    state = episodes.state
    texts = tuple(describe(episodes.mdp, state, row) for row in range(len(state)))
    if render_mode == "ansi":
        return texts
    for text in texts:
        print(text)  # noqa: T201 -- writing to the terminal is what this mode is for
    return ()
