"""The main job: an agent learns to prompt a real LLM, beside a search for the best fixed prompt."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rpp_agents.algorithms.bandits.fixed import FixedAgent
from rpp_agents.base import Agent, AgentSpec
from rpp_agents.registry import agent_from_config, load_agent
from rpp_agents.rollouts.play import play_once
from rpp_agents.training import run_folder
from rpp_agents.training.accounting import Ledger
from rpp_agents.training.train_config import TrainConfig, config_to_json
from rpp_env import PromptMDP, RPPVectorParallelEnv
from rpp_env.errors import RunError
from rpp_env.mdp.spaces import split_instances
from rpp_env.recommenders import ResumableRecommender
from rpp_env.types import IntArray


def train(
    config: TrainConfig, folder: Path, *, resume: bool = False, mdp: PromptMDP | None = None
) -> Agent:
    """Trains into a new run folder, or goes on where a run was interrupted.

    An interrupted and resumed run gives the same metrics and the same agent as an uninterrupted
    one. On Ctrl-C, and when the LLM stays out of reach, everything learned and every answer
    received so far is kept.

    Args:
        config: What to do; must be the run's own configuration when it is resumed.
        folder: Run folder.
        resume: Whether `folder` holds the run to go on with.
        mdp: The environment, if it is made already.

    Returns:
        The trained agent.

    Raises:
        RunError: The folder holds a run and `resume` is not set, or the other way round, or the
            run has another configuration.
    """
    if not resume:
        run_folder.require_new(folder)
    elif run_folder.read_config(folder) != config_to_json(config):
        raise RunError(f"{folder} holds a run with another configuration than this one")
    mdp = mdp or config.make_mdp()
    order = training_order(split_instances(mdp, "train"), config)
    spec = agent_spec(mdp)
    # Both are made before anything is run, so that what cannot be made costs nothing.
    agent = agent_from_config(config.agent, spec, seed=config.seed)
    fixed = FixedAgent(spec, seed=config.seed) if config.search_fixed else None
    if resume:
        run_folder.check_made_of(folder, run_fingerprint(mdp))
    else:
        folder.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    # More threads make small networks slower, and the LLM has workers of its own.
    torch.set_num_threads(1)
    try:
        with run_folder.lock_folder(folder):
            if not resume:
                run_folder.start_run(folder, config_to_json(config), made_of=run_fingerprint(mdp))
            load_answers(mdp, folder)
            ledger = Ledger(
                mdp,
                folder,
                prompt_price=config.prompt_price,
                completion_price=config.completion_price,
            )
            try:
                agent = _learn(folder, run_folder.CHECKPOINT, mdp, order, agent, "train", ledger)
                if fixed is not None:
                    _learn(folder, run_folder.FIXED, mdp, order, fixed, "best fixed prompt", ledger)
            finally:
                save_answers(mdp, folder)
                ledger.save()
    finally:
        torch.set_num_threads(threads)
    return agent


def save_answers(mdp: PromptMDP, folder: Path) -> None:
    """Completes what a run folder holds of the LLM's answers and of the prompts asked for."""
    if mdp.renderer.refiner is not None:
        mdp.renderer.refiner.save()
    if isinstance(mdp.recommender, ResumableRecommender):
        mdp.recommender.save(folder)


def load_answers(mdp: PromptMDP, folder: Path) -> None:
    """Takes over what a run folder holds; what the LLM answers is kept there from now on."""
    if mdp.renderer.refiner is not None:
        mdp.renderer.refiner.load(folder)
    if isinstance(mdp.recommender, ResumableRecommender):
        mdp.recommender.load(folder)


def run_fingerprint(mdp: PromptMDP) -> str:
    """Fingerprint of instances and sentences, and of a recording's rankings and embeddings."""
    recommender = mdp.recommender
    fixed = recommender.fingerprint() if isinstance(recommender, ResumableRecommender) else ""
    if not fixed:
        return mdp.fingerprint()
    digest = hashlib.sha256((mdp.fingerprint() + fixed).encode())
    embeddings = mdp.encoder.embeddings
    for table in (embeddings.users, embeddings.items, *mdp.encoder.sentences):
        digest.update(np.ascontiguousarray(table).tobytes())
    return digest.hexdigest()


def training_order(train_ids: IntArray, config: TrainConfig) -> IntArray:
    """Which instance each episode of each iteration is about. Shape: (iterations, num_envs).

    Each pass over the train instances has another seeded random order, so that the numbers of uses
    of two instances differ by at most one.
    """
    needed = config.iterations * config.num_envs
    rng = np.random.default_rng((config.seed, 1))
    rounds = -(-needed // len(train_ids))
    order = np.concatenate([rng.permutation(train_ids) for _ in range(rounds)])
    ids: IntArray = order[:needed].reshape(config.iterations, config.num_envs)
    return ids


def _learn(
    folder: Path,
    name: str,
    mdp: PromptMDP,
    order: IntArray,
    agent: Agent,
    label: str,
    ledger: Ledger,
) -> Agent:
    """Does the iterations that are left for one agent, and keeps its checkpoint `name`."""
    checkpoint = run_folder.find_checkpoint(folder, name)
    done = run_folder.read_iterations(checkpoint)
    if checkpoint is not None:
        agent = load_agent(checkpoint)
    if done >= len(order):
        return agent
    run_folder.keep_metrics(folder, name, done)
    calls_at_start = mdp.recommender.llm_calls
    prompts_each = order.shape[1] * mdp.horizon
    with (
        SummaryWriter(str(folder), purge_step=done, filename_suffix=f".{name}") as writer,
        tqdm(
            total=len(order) * prompts_each, initial=done * prompts_each, desc=label, unit="prompt"
        ) as bar,
    ):
        for iteration in range(done, len(order)):
            with ledger.clock("playing"):
                rollout = play_once(mdp, agent, order[iteration], on_prompts=bar.update)
            with ledger.clock("learning"):
                learned = agent.learn(rollout)
            metrics = {
                "iteration": iteration,
                "ndcg": float(rollout.rewards.mean()),
                "ndcg_last_step": float(rollout.rewards[-1].mean()),
                "recognised": float(rollout.infos["recognised"].mean()),
                "llm_calls": mdp.recommender.llm_calls,
                **learned,
            }
            save_answers(mdp, folder)
            for key, value in ledger.save().items():
                writer.add_scalar(f"{name}/usage/{key}", value, iteration)
            run_folder.append_metrics(folder, name, metrics)
            for key, value in metrics.items():
                writer.add_scalar(f"{name}/{key}", value, iteration)
            run_folder.save_checkpoint(folder, name, agent.save, iterations=iteration + 1)
            rate = (mdp.recommender.llm_calls - calls_at_start) / bar.format_dict["elapsed"]
            shown = {key: metrics[key] for key in metrics if key in ("ndcg", "entropy")}
            bar.set_postfix(shown | {"LLM calls/s": rate})
    return agent


def agent_spec(mdp: PromptMDP) -> AgentSpec:
    """What an agent must know of an environment to be built for it."""
    env = RPPVectorParallelEnv(mdp, 1)
    env.reset(seed=0)
    return AgentSpec.of(env)
