"""The table of scores: the policy and simple baselines on the same users.

Two rules say which of an episode's rankings counts, and neither knows the target: the *last*
step's, or that of the step with the highest *critic* value (the agent tries, then keeps what it
values most). Both are fixed here, before anything is played.
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rpp_agents.algorithms.random import RandomAgent
from rpp_agents.base import Agent
from rpp_agents.evaluation.placebo import match_placebo, score_candidates
from rpp_agents.evaluation.statistics import Interval, bootstrap_mean
from rpp_agents.registry import load_agent
from rpp_agents.rollouts.play import PlayedEpisodes, play
from rpp_agents.training import run_folder
from rpp_agents.training.accounting import accounts, read_usage
from rpp_agents.training.train import load_answers, run_fingerprint, save_answers
from rpp_agents.training.train_config import TrainConfig, config_from_json
from rpp_env import PromptMDP, live_mdp
from rpp_env.errors import RunError
from rpp_env.mdp.spaces import split_instances, step_metrics
from rpp_env.option_checks import check_seed, whole_number
from rpp_env.recommenders import RecordedRecommender
from rpp_env.recommenders.ordering import order_by_score
from rpp_env.rewards import chance_ndcg_at_k, ndcg_of_ranks, target_ranks
from rpp_env.types import FloatArray, IntArray

KS = (1, 5, 10)
BASELINE = "best fixed prompt"
DEFAULT_USERS = 40


@dataclass(frozen=True, kw_only=True)
class ScoreboardRow:
    """One line of the table."""

    name: str
    note: str
    ndcg: dict[int, Interval]  # by cut-off
    gain: Interval | None  # NDCG@10 over the best fixed prompt, paired by user; None for itself
    recognised: float | None  # fraction of candidates the LLM ranked; None without an LLM
    llm_calls: int | None  # distinct prompts asked for; None without an LLM


@dataclass(frozen=True, kw_only=True)
class Scoreboard:
    """Rows, and what they were measured on."""

    split: str
    num_users: int
    seed: int
    training_llm_calls: int
    requests: int  # that really went to an LLM for this table; `llm_calls` counts prompts asked for
    training_requests: int
    rows: tuple[ScoreboardRow, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def evaluate_run(
    folder: Path,
    *,
    split: str = "test",
    users: int | None = None,
    seed: int = 0,
    oracle: bool = False,
    live: bool = False,
    mdp: PromptMDP | None = None,
) -> Scoreboard:
    """Evaluates a run's agent and the baselines on the same users.

    Args:
        folder: Run folder.
        split: Whose users.
        users: How many of them, drawn with `seed`; 0 for all. None for all on a recording and 40,
            or all if they are fewer, with a live LLM.
        seed: Seed of the drawn users, of the random policy and of the bootstrap. The trained
            policy goes on sampling from where its training ended, each time alike.
        oracle: Whether to rank with every combination of sentences too, which is slow with a live
            LLM; on a recording it is done always.
        live: Whether the LLM of a recording ranks anew, instead of its recorded rankings.
        mdp: The environment, if it is made already.

    Raises:
        RunError: The folder holds no run that was trained to its end.
        ValueError: An argument is out of its range.
    """
    check_seed(seed)
    with open_run(folder, live=live, mdp=mdp) as (mdp, agent, fixed):
        if isinstance(mdp.recommender, RecordedRecommender):
            users, oracle = 0 if users is None else users, True
        if oracle and mdp.catalog.history_mode == "add":
            raise ValueError(
                f"oracle={oracle}: with catalog {mdp.catalog.name!r} a prompt depends on the ones "
                "before it, so that not every prompt can be ranked"
            )
        ids = evaluation_instances(mdp, split=split, users=users, seed=seed)
        requests = -accounts(mdp).get("requests", 0)
        rows = _rows(mdp, agent, fixed, ids, seed=seed, oracle=oracle)
        requests += accounts(mdp).get("requests", 0)
    last = run_folder.FIXED if fixed is not None else run_folder.CHECKPOINT
    return Scoreboard(
        split=split,
        num_users=len(ids),
        seed=seed,
        training_llm_calls=int(run_folder.read_metrics(folder, last)[-1]["llm_calls"]),
        requests=int(requests),
        training_requests=int(read_usage(folder).get("requests", 0)),
        rows=tuple(rows),
    )


@contextlib.contextmanager
def open_run(
    folder: Path, *, live: bool = False, mdp: PromptMDP | None = None
) -> Iterator[tuple[PromptMDP, Agent, Agent | None]]:
    """Opens a finished run: its environment, its agent, and the best fixed prompt if it has one.

    Rankings that are known already are not asked for again, and new ones are kept.

    Args:
        folder: Run folder.
        live: Whether the LLM of a recording ranks anew, instead of its recorded rankings.
        mdp: The environment that the run was trained in, if it is made already.

    Raises:
        ValueError: `live` is set for a run that was not trained on a recording.
        RunError: The folder holds no run that was trained to its end, or its data have changed.
    """
    config = config_from_json(run_folder.read_config(folder))
    agent = _load_finished(folder, run_folder.CHECKPOINT, config)
    fixed = _load_finished(folder, run_folder.FIXED, config) if config.search_fixed else None
    mdp = mdp or config.make_mdp()
    run_folder.check_made_of(folder, run_fingerprint(mdp))
    if live:
        if config.live:
            raise ValueError(f"live={live}: {folder} was trained with a live LLM already")
        mdp = live_mdp(config.recording, horizon=config.horizon)
    with run_folder.lock_folder(folder):
        load_answers(mdp, folder)
        try:
            yield mdp, agent, fixed
        finally:
            save_answers(mdp, folder)


def evaluation_instances(
    mdp: PromptMDP, *, split: str, users: int | None, seed: int = 0
) -> IntArray:
    """The latest instance of each of `users` users of a split, drawn with `seed`.

    With `users` 0 it is all of them, with None `DEFAULT_USERS` or all if they are fewer.
    """
    ids = split_instances(mdp, split)
    if users is not None:
        whole_number("users", users, low=0)
    # Instances are ordered by user and then time, so the last of a user's rows is the latest.
    _, from_end = np.unique(mdp.instances.users[ids][::-1], return_index=True)
    latest = ids[len(ids) - 1 - from_end]
    if users is None:
        users = min(DEFAULT_USERS, len(latest))
    if users > len(latest):
        raise ValueError(f"users={users}: split {split!r} has only {len(latest)}; 0 takes them all")
    drawn: IntArray = np.random.default_rng((seed, 2)).permutation(latest)
    return np.sort(drawn[: users or None])


def _rows(
    mdp: PromptMDP,
    agent: Agent,
    fixed: Agent | None,
    ids: IntArray,
    *,
    seed: int,
    oracle: bool,
) -> list[ScoreboardRow]:
    random = RandomAgent(agent.spec, seed=seed + 1)
    num_envs = 256 if isinstance(mdp.recommender, RecordedRecommender) else 16
    random_play = play(mdp, random, ids, num_envs=num_envs, label="random policy")
    explore = agent.explores_in_evaluation
    policy_play = play(mdp, agent, ids, num_envs=num_envs, explore=explore, label="policy")
    # (name, note, ranks of the targets, what they were played in)
    found: list[tuple[str, str, IntArray, PlayedEpisodes | None]] = [
        ("random policy, last step", "", random_play.by_last_step(), random_play),
        ("policy, last step", "", policy_play.by_last_step(), policy_play),
    ]
    baseline = None
    if fixed is not None:
        fixed_play = play(mdp, fixed, ids, explore=False, label=BASELINE)
        found.insert(1, (BASELINE, "one for everybody", fixed_play.by_last_step(), fixed_play))
        baseline = ndcg_of_ranks(fixed_play.by_last_step(), k=10)
    tries = f"of {mdp.horizon} tries"
    if not np.isnan(policy_play.values).any():
        states = random_play.states
        valued = agent.values(states.reshape(-1, states.shape[-1])).reshape(states.shape[:2])
        by_value = policy_play.by_highest_value(policy_play.values)
        found += [
            ("policy, highest critic value", tries, by_value, policy_play),
            (
                "random policy, critic chooses",
                tries,
                random_play.by_highest_value(valued),
                random_play,
            ),
        ]
    found += [
        ("oracle, the policy's tries", "knows the target", policy_play.best(), policy_play),
        ("oracle, random tries", "knows the target", random_play.best(), random_play),
    ]
    placebo = []
    if oracle:
        every_prompt, rankings = rank_every_prompt(mdp, ids)
        found.append(
            ("oracle, every prompt", "knows the target", every_prompt.best(), every_prompt)
        )
        if mdp.instances.num_candidates > 1:
            slots = mdp.instances.target_slots[ids]
            placebo.append(_placebo_row(rankings, slots, baseline, seed))
    beside = ("LightGCN alone", "no LLM, for scale", lightgcn_ranks(mdp, ids), None)
    return [
        _chance_row(mdp.instances.num_candidates, baseline, seed),
        *(_row(name, note, ranks, played, baseline, seed) for name, note, ranks, played in found),
        *placebo,
        _row(*beside, baseline, seed),
    ]


def rank_every_prompt(mdp: PromptMDP, ids: IntArray) -> tuple[PlayedEpisodes, IntArray]:
    """Ranks with every combination of sentences from the initial state, each counted as a step.

    Returns:
        The episodes, and the rankings, (U, K, M).
    """
    combinations = np.array(list(itertools.product(*map(range, mdp.catalog.num_choices))))
    calls_before = mdp.recommender.llm_calls
    ranks, recognised, rankings = [], [], []
    for instance in tqdm(ids, desc="oracle", unit="user"):
        start = mdp.initial(np.full(len(combinations), instance))
        state = mdp.transition(start, combinations)
        metrics = step_metrics(mdp, state)
        ranks.append(metrics["target_rank"].astype(np.int64))
        recognised.append(metrics["recognised"])
        rankings.append(state.rankings.astype(np.int16))
    nothing = np.full((len(combinations), len(ids)), np.nan)
    played = PlayedEpisodes(
        instance_ids=ids,
        actions=np.repeat(combinations[:, None], len(ids), axis=1),
        ranks=np.stack(ranks, axis=1),
        recognised=np.stack(recognised, axis=1),
        states=nothing[..., None],
        values=nothing,
        llm_calls=mdp.recommender.llm_calls - calls_before,
    )
    return played, np.stack(rankings)


def lightgcn_ranks(mdp: PromptMDP, ids: IntArray) -> IntArray:
    """Ranks of the targets when candidates are ordered by affinity to the user. Shape: (U,)."""
    rankings = order_by_score(mdp.encoder.affinities[ids], ids, seed=0)
    return target_ranks(rankings, mdp.instances.target_slots[ids])


def _row(
    name: str,
    note: str,
    ranks: IntArray,
    played: PlayedEpisodes | None,
    baseline: FloatArray | None,
    seed: int,
) -> ScoreboardRow:
    ndcg = {k: bootstrap_mean(ndcg_of_ranks(ranks, k=k), seed=seed) for k in KS}
    gain = None
    if baseline is not None and name != BASELINE:
        gain = bootstrap_mean(ndcg_of_ranks(ranks, k=10) - baseline, seed=seed)
    return ScoreboardRow(
        name=name,
        note=note,
        ndcg=ndcg,
        gain=gain,
        recognised=None if played is None else float(played.recognised.mean()),
        llm_calls=None if played is None else played.llm_calls,
    )


def _placebo_row(
    rankings: IntArray, target_slots: IntArray, baseline: FloatArray | None, seed: int
) -> ScoreboardRow:
    """The oracle of candidates that are not the target; see `match_placebo`."""

    def placebo(k: int) -> FloatArray:
        candidates = score_candidates(rankings, tries=1, k=k)
        return match_placebo(candidates.best, candidates.mean, target_slots).scores

    gain = None if baseline is None else bootstrap_mean(placebo(10) - baseline, seed=seed)
    return ScoreboardRow(
        name="placebo oracle, every prompt",
        note="candidates that are not the target",
        ndcg={k: bootstrap_mean(placebo(k), seed=seed) for k in KS},
        gain=gain,
        recognised=None,
        llm_calls=None,
    )


def _load_finished(folder: Path, name: str, config: TrainConfig) -> Agent:
    checkpoint = run_folder.find_checkpoint(folder, name)
    done = run_folder.read_iterations(checkpoint)
    if checkpoint is None or done < config.iterations:
        raise RunError(
            f"{folder}: {name} has {done} of {config.iterations} iterations; "
            f"first go on with: rpp train --resume {folder}"
        )
    return load_agent(checkpoint)


def _chance_row(num_candidates: int, baseline: FloatArray | None, seed: int) -> ScoreboardRow:
    expected = {k: chance_ndcg_at_k(num_candidates, k=k) for k in KS}
    return ScoreboardRow(
        name="chance",
        note="exact",
        ndcg={k: Interval(mean=value, low=value, high=value) for k, value in expected.items()},
        gain=None if baseline is None else bootstrap_mean(expected[10] - baseline, seed=seed),
        recognised=None,
        llm_calls=None,
    )
