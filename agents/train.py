"""The main job: an agent learns to prompt a real LLM, beside a search for the best fixed prompt."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rpp_agents import runs
from rpp_agents.a2c import A2CConfig
from rpp_agents.base import Agent, AgentSpec
from rpp_agents.evaluate import play_once
from rpp_agents.fixed import FixedAgent, FixedConfig
from rpp_agents.random_agent import RandomConfig
from rpp_agents.registry import AGENTS, agent_from_config, agent_name, load_agent
from rpp_env import PromptMDP, RPPVectorParallelEnv, make_mdp
from rpp_env.errors import RunError
from rpp_env.llm.load import DEFAULT_LLM
from rpp_env.make import DEFAULT_CATALOG, DEFAULT_DATA
from rpp_env.recommenders import MemoryCachedRecommender
from rpp_env.types import IntArray

# The annotations name the agents on the command line: rpp train agent:a2c --agent.ent-coef 0.02
AgentConfig = (
    Annotated[A2CConfig, tyro.conf.subcommand("a2c")]
    | Annotated[FixedConfig, tyro.conf.subcommand("fixed")]
    | Annotated[RandomConfig, tyro.conf.subcommand("random")]
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What `train` does."""

    data: str = DEFAULT_DATA
    """ml-100k, or a folder (or .inter file) in RecBole's atomic format."""
    catalog: str = DEFAULT_CATALOG
    """Name of a catalog of rpp-env, or a YAML file."""
    llm: str = DEFAULT_LLM
    """backend:model, as in transformers:PATH."""
    iterations: int = 6
    """Rollouts to learn from."""
    num_envs: int = 16
    """Episodes a rollout, each on a user of its own."""
    horizon: int = 15
    """Steps of an episode, each one LLM call at most."""
    num_candidates: int = 10
    """Candidates of an instance, the target included."""
    targets_per_user: int = 1
    """Instances of a user: the last items of the sequence, each with the history before it."""
    search_fixed: bool = True
    """Whether to look for the best fixed prompt too, with as many prompts on the same users."""
    seed: int = 0
    """Of everything: instances, the order in which they are trained on, and the agent."""
    agent: AgentConfig = field(default_factory=A2CConfig)
    """The agent and its hyper-parameters."""

    def __post_init__(self) -> None:
        for name in ("iterations", "num_envs", "horizon", "targets_per_user"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative")

    def make_mdp(self) -> PromptMDP:
        """The environment that this configuration describes."""
        return make_mdp(
            data=self.data,
            catalog=self.catalog,
            llm=self.llm,
            num_candidates=self.num_candidates,
            targets_per_user=self.targets_per_user,
            horizon=self.horizon,
            seed=self.seed,
        )


def config_to_json(config: TrainConfig) -> dict[str, Any]:
    """The configuration as a JSON object, with the agent's name."""
    document = runs.to_json(config)
    document["agent"] = {"name": agent_name(config.agent), **document["agent"]}
    return document


def config_from_json(document: dict[str, Any]) -> TrainConfig:
    """What `config_to_json` wrote; RunError when this version has other options."""
    try:
        agent = dict(document["agent"])
        _, config_class = AGENTS[agent.pop("name")]
        return TrainConfig(**{**document, "agent": config_class(**agent)})
    except (KeyError, TypeError) as error:
        raise RunError(
            f"the run was made with other options than this version has: {error}"
        ) from error


def train(
    config: TrainConfig, folder: Path, *, resume: bool = False, mdp: PromptMDP | None = None
) -> Agent:
    """Trains into a new run folder, or goes on where a run was interrupted.

    An interrupted and resumed run gives the same metrics and the same agent as an uninterrupted
    one. On Ctrl-C everything learned and every ranking received so far is kept.

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
        runs.require_new(folder)
    elif runs.read_config(folder) != config_to_json(config):
        raise RunError(f"{folder} holds a run with another configuration than this one")
    # More threads make small networks slower, and the LLM has workers of its own.
    torch.set_num_threads(1)
    mdp = mdp or config.make_mdp()
    if not resume:
        runs.start_run(folder, config_to_json(config))
    load_rankings(mdp, folder)
    order = training_order(mdp.instances.in_split("train"), config)
    spec = _spec(mdp)

    def new_agent() -> Agent:
        return agent_from_config(config.agent, spec, seed=config.seed)

    def new_fixed() -> Agent:
        return FixedAgent(spec, seed=config.seed)

    try:
        agent = _learn(folder, runs.CHECKPOINT, mdp, order, new_agent, "train")
        if config.search_fixed:
            _learn(folder, runs.FIXED, mdp, order, new_fixed, "best fixed prompt")
    finally:
        save_rankings(mdp, folder)
    return agent


def save_rankings(mdp: PromptMDP, folder: Path) -> None:
    """Keeps in a run folder what the LLM has answered, if the recommender remembers it."""
    if isinstance(mdp.recommender, MemoryCachedRecommender):
        mdp.recommender.save(folder / runs.RANKINGS)


def load_rankings(mdp: PromptMDP, folder: Path) -> None:
    """Takes over what `save_rankings` kept, if there is any."""
    path = folder / runs.RANKINGS
    if isinstance(mdp.recommender, MemoryCachedRecommender) and path.exists():
        mdp.recommender.load(path)


def training_order(train_ids: IntArray, config: TrainConfig) -> IntArray:
    """Which instance each episode of each iteration is about. Shape: (iterations, num_envs).

    The train instances in a seeded random order, and then in another, so that each is used as
    often as any other, give or take one.
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
    new_agent: Callable[[], Agent],
    label: str,
) -> Agent:
    """Does the iterations that are left for one agent, and keeps its checkpoint `name`."""
    checkpoint = runs.recover_checkpoint(folder, name)
    done = int(runs.read_progress(checkpoint)["iterations"]) if checkpoint else 0
    agent = load_agent(checkpoint) if checkpoint else new_agent()
    runs.keep_metrics(folder, name, done)
    calls_at_start = mdp.recommender.llm_calls
    prompts_each = order.shape[1] * mdp.horizon
    with (
        SummaryWriter(str(folder), purge_step=done, filename_suffix=f".{name}") as writer,
        tqdm(
            total=len(order) * prompts_each, initial=done * prompts_each, desc=label, unit="prompt"
        ) as bar,
    ):
        for iteration in range(done, len(order)):
            rollout = play_once(mdp, agent, order[iteration], on_prompts=bar.update)
            metrics = {
                "iteration": iteration,
                "ndcg": float(rollout.rewards.mean()),
                "ndcg_last_step": float(rollout.rewards[-1].mean()),
                "recognised": float(rollout.infos["recognised"].mean()),
                "llm_calls": mdp.recommender.llm_calls,
                **agent.learn(rollout),
            }
            save_rankings(mdp, folder)
            runs.append_metrics(folder, name, metrics)
            for key, value in metrics.items():
                writer.add_scalar(f"{name}/{key}", value, iteration)
            runs.save_checkpoint(folder, name, agent.save, progress={"iterations": iteration + 1})
            rate = (mdp.recommender.llm_calls - calls_at_start) / bar.format_dict["elapsed"]
            shown = {key: metrics[key] for key in metrics if key in ("ndcg", "entropy")}
            bar.set_postfix(shown | {"LLM calls/s": rate})
    return agent


def _spec(mdp: PromptMDP) -> AgentSpec:
    env = RPPVectorParallelEnv(mdp, 1)
    env.reset(seed=0)
    return AgentSpec.of(env)
