"""The main job: an agent learns to prompt a real LLM, beside a search for the best fixed prompt."""

import hashlib
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
from rpp_agents.affinity import AffinityConfig
from rpp_agents.base import Agent, AgentSpec
from rpp_agents.checks import check_count, check_seed
from rpp_agents.enumerate_agent import EnumerateConfig
from rpp_agents.evaluate import play_once
from rpp_agents.fixed import FixedAgent, FixedConfig
from rpp_agents.ippo import IPPOConfig
from rpp_agents.linucb import LinUCBConfig
from rpp_agents.mappo import MAPPOConfig
from rpp_agents.qmix import QMIXConfig
from rpp_agents.random_agent import RandomConfig
from rpp_agents.registry import AGENTS, agent_from_config, agent_name, load_agent
from rpp_env import PromptMDP, RPPVectorParallelEnv, make_mdp
from rpp_env.errors import RunError
from rpp_env.llm.load import DEFAULT_LLM
from rpp_env.make import DEFAULT_CATALOG, DEFAULT_DATA
from rpp_env.recommenders import MemoryCachedRecommender, RecordedRecommender
from rpp_env.recordings import DEFAULT_RECORDING, recorded_mdp
from rpp_env.spaces import split_instances
from rpp_env.types import IntArray

# The annotations name the agents on the command line: rpp train agent:a2c --agent.ent-coef 0.02
AgentConfig = (
    Annotated[A2CConfig, tyro.conf.subcommand("a2c")]
    | Annotated[AffinityConfig, tyro.conf.subcommand("affinity")]
    | Annotated[EnumerateConfig, tyro.conf.subcommand("enumerate")]
    | Annotated[FixedConfig, tyro.conf.subcommand("fixed")]
    | Annotated[IPPOConfig, tyro.conf.subcommand("ippo")]
    | Annotated[LinUCBConfig, tyro.conf.subcommand("linucb")]
    | Annotated[MAPPOConfig, tyro.conf.subcommand("mappo")]
    | Annotated[QMIXConfig, tyro.conf.subcommand("qmix")]
    | Annotated[RandomConfig, tyro.conf.subcommand("random")]
)

_LIVE = ("data", "catalog", "llm", "num_candidates", "targets_per_user")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What `train` does."""

    recording: str = DEFAULT_RECORDING
    """Recording to train on, a name or a file."""
    live: bool = False
    """Ask a live LLM instead of a recording; the options that say Live are for this."""
    data: str = DEFAULT_DATA
    """Live: ml-100k, or a folder (or .inter file) in RecBole's atomic format."""
    catalog: str = DEFAULT_CATALOG
    """Live: name of a catalog of rpp-env, or a YAML file."""
    llm: str = DEFAULT_LLM
    """Live: backend:model, as in transformers:PATH."""
    num_candidates: int = 10
    """Live: candidates of an instance, the target included."""
    targets_per_user: int = 1
    """Live: instances of a user, the last items of the sequence, each with the history before."""
    iterations: int = 40
    """Rollouts to learn from; fewer for a live LLM, which ranks 4 prompts a second on two cores."""
    num_envs: int = 64
    """Episodes a rollout, on as many train instances, as long as there are enough."""
    horizon: int = 15
    """Steps of an episode, each one LLM call at most."""
    search_fixed: bool = True
    """Whether to look for the best fixed prompt too, with as many prompts on the same users."""
    seed: int = 0
    """Of everything: instances, the order in which they are trained on, and the agent."""
    agent: AgentConfig = field(default_factory=A2CConfig)
    """The agent and its hyper-parameters."""

    def __post_init__(self) -> None:
        options = ("iterations", "num_envs", "horizon", "targets_per_user")
        check_count(self, 1, *options)
        check_count(self, 2, "num_candidates")
        object.__setattr__(self, "seed", check_seed(self.seed))
        for name in ("recording",) if self.live else _LIVE:
            value = getattr(self, name)
            if value != TrainConfig.__dataclass_fields__[name].default:
                raise ValueError(
                    f"{name}={value!r} is for training on a recording; leave out live"
                    if self.live
                    else f"{name}={value!r} is for a live LLM; add live"
                )

    def make_mdp(self) -> PromptMDP:
        """The environment that this configuration describes."""
        if not self.live:
            return recorded_mdp(self.recording, horizon=self.horizon)
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
    mdp = mdp or config.make_mdp()
    order = training_order(split_instances(mdp, "train"), config)
    spec = spec_of(mdp)
    # Both are made before anything is run, so that what cannot be made costs nothing.
    agent = agent_from_config(config.agent, spec, seed=config.seed)
    fixed = FixedAgent(spec, seed=config.seed) if config.search_fixed else None
    if resume:
        runs.check_made_of(folder, made_of(mdp))
    else:
        runs.start_run(folder, config_to_json(config), made_of=made_of(mdp))
    threads = torch.get_num_threads()
    # More threads make small networks slower, and the LLM has workers of its own.
    torch.set_num_threads(1)
    try:
        with runs.exclusively(folder):
            load_rankings(mdp, folder)
            try:
                agent = _learn(folder, runs.CHECKPOINT, mdp, order, agent, "train")
                if fixed is not None:
                    _learn(folder, runs.FIXED, mdp, order, fixed, "best fixed prompt")
            finally:
                save_rankings(mdp, folder)
    finally:
        torch.set_num_threads(threads)
    return agent


def save_rankings(mdp: PromptMDP, folder: Path) -> None:
    """Keeps in a run folder what the LLM has answered, if the recommender remembers it."""
    if isinstance(mdp.recommender, MemoryCachedRecommender):
        mdp.recommender.save(folder / runs.RANKINGS)
    elif isinstance(mdp.recommender, RecordedRecommender):
        mdp.recommender.save(folder / runs.ASKED)


def load_rankings(mdp: PromptMDP, folder: Path) -> None:
    """Takes over what `save_rankings` kept, if there is any."""
    recommender = mdp.recommender
    if isinstance(recommender, MemoryCachedRecommender | RecordedRecommender):
        recorded = isinstance(recommender, RecordedRecommender)
        path = folder / (runs.ASKED if recorded else runs.RANKINGS)
        if path.exists():
            recommender.load(path)


def made_of(mdp: PromptMDP) -> str:
    """Fingerprint of instances and sentences, and of a recording's rankings and embeddings."""
    if not isinstance(mdp.recommender, RecordedRecommender):
        return mdp.fingerprint()
    digest = hashlib.sha256((mdp.fingerprint() + mdp.recommender.fingerprint()).encode())
    embeddings = mdp.encoder.embeddings
    for table in (embeddings.users, embeddings.items, *mdp.encoder.sentences):
        digest.update(np.ascontiguousarray(table).tobytes())
    return digest.hexdigest()


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
    agent: Agent,
    label: str,
) -> Agent:
    """Does the iterations that are left for one agent, and keeps its checkpoint `name`."""
    checkpoint = runs.find_checkpoint(folder, name)
    done = runs.read_iterations(checkpoint)
    if checkpoint is not None:
        agent = load_agent(checkpoint)
    if done >= len(order):
        return agent
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
            runs.save_checkpoint(folder, name, agent.save, iterations=iteration + 1)
            rate = (mdp.recommender.llm_calls - calls_at_start) / bar.format_dict["elapsed"]
            shown = {key: metrics[key] for key in metrics if key in ("ndcg", "entropy")}
            bar.set_postfix(shown | {"LLM calls/s": rate})
    return agent


def spec_of(mdp: PromptMDP) -> AgentSpec:
    """What an agent must know of an environment to be built for it."""
    env = RPPVectorParallelEnv(mdp, 1)
    env.reset(seed=0)
    return AgentSpec.of(env)
