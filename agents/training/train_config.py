"""What `train` does, as options: of the command line, and in a run folder."""

import math
from dataclasses import MISSING, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

from rpp_agents.algorithms.a2c import A2CConfig
from rpp_agents.registry import AGENTS, agent_name
from rpp_agents.training import run_folder
from rpp_env import PromptMDP, make_mdp
from rpp_env.data import Negatives
from rpp_env.errors import RunError
from rpp_env.llm import LLM
from rpp_env.llm.load import DEFAULT_LLM, EngineConfig
from rpp_env.make import DEFAULT_DATA
from rpp_env.option_checks import check_between, check_count, check_seed, first_changed
from rpp_env.recommenders import RankingConfig
from rpp_env.recordings import DEFAULT_RECORDING, recorded_mdp

if TYPE_CHECKING:
    AgentConfig = Any
else:
    # Every agent of the registry is a subcommand: rpp train agent:a2c --agent.ent-coef 0.02
    AgentConfig = Union[  # noqa: UP007 - the members are known at run time only
        tuple(Annotated[config, tyro.conf.subcommand(name)] for name, (_, config) in AGENTS.items())
    ]

_LIVE = (
    *("data", "columns", "catalog", "llm", "engine", "ranking", "refine", "cache"),
    *("num_candidates", "targets_per_user", "negatives", "min_rating"),
    *("prompt_price", "completion_price"),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What `train` does."""

    recording: str = DEFAULT_RECORDING
    """Recording to train on, a name or a file."""
    live: bool = False
    """Ask a live LLM instead of a recording; the options that say Live are for this."""
    data: str = DEFAULT_DATA
    """Live: ml-100k, ml-1m, lastfm, or a folder (or .inter file) in RecBole's atomic format."""
    columns: dict[str, str] = field(default_factory=dict)
    """Live: names of columns in the files of --data, as in: user_id uid title name. The first of
    each two is the name used here: user_id, item_id, timestamp, item_id_list, rating, title or
    year."""
    catalog: str | None = None
    """Live: name of a catalog of rpp-env, or a YAML file; by default the one for the strategy."""
    llm: str = DEFAULT_LLM
    """Live: backend:model, as in transformers:PATH, vllm:PATH or openai:MODEL@URL."""
    engine: Annotated[EngineConfig, tyro.conf.arg(name="")] = field(default_factory=EngineConfig)
    """Live."""
    ranking: Annotated[RankingConfig, tyro.conf.arg(name="")] = field(default_factory=RankingConfig)
    """Live."""
    refine: str | None = None
    """Live: backend:model of an LLM that rewrites the chosen sentences (RPP+); the options of
    engines are for it too."""
    cache: bool = True
    """Live: keep what the LLM answers for later runs too; see rpp cache."""
    prompt_price: float = 0.0
    """Live: what a million tokens of prompts cost, in any currency."""
    completion_price: float = 0.0
    """Live: what a million tokens of completions cost."""
    num_candidates: int = 10
    """Live: candidates per instance, with the target."""
    targets_per_user: int = 1
    """Live: instances per user: the last items, each with the history before it."""
    negatives: Negatives = "uniform"
    """Live: how the other candidates are drawn: all items alike, by popularity, or the items that
    LightGCN puts on top for the user."""
    min_rating: float | None = None
    """Live: only records with at least this rating count as history; by default all."""
    iterations: int = 40
    """Rollouts to learn from. Use fewer with a live LLM: two cores rank 4 prompts per second."""
    num_envs: int = 64
    """Episodes per rollout, each on another train instance while there are enough."""
    horizon: int = 15
    """Steps per episode; each is at most one LLM call."""
    search_fixed: bool = True
    """Also search for the best fixed prompt, with as many prompts on the same users."""
    seed: int = 0
    """Seed of everything: instances, their order in training, and the agent."""
    agent: AgentConfig = field(default_factory=A2CConfig)
    """The agent and its hyper-parameters."""

    def __post_init__(self) -> None:
        options = ("iterations", "num_envs", "horizon", "targets_per_user")
        check_count(self, 1, *options)
        check_count(self, 2, "num_candidates")
        object.__setattr__(self, "seed", check_seed(self.seed))
        check_between(self, 0, math.inf, "prompt_price", "completion_price")
        for name in ("recording",) if self.live else _LIVE:
            value = getattr(self, name)
            if value != default_option(name):
                name, value = first_changed(name, value, default_option(name))
                raise ValueError(
                    f"{name}={value!r} is for training on a recording; leave out live"
                    if self.live
                    else f"{name}={value!r} is for a live LLM; add live"
                )

    def make_mdp(self) -> PromptMDP:
        """The environment that this configuration describes."""
        if not self.live:
            return recorded_mdp(self.recording, horizon=self.horizon)
        refine: LLM | None = None
        llm = self.engine.load(self.llm, *filter(None, [self.refine]))
        if self.refine is not None:
            same = self.refine == self.llm
            refine = llm if same else self.engine.load(self.refine, self.llm)
        return make_mdp(
            data=self.data,
            columns=self.columns,
            catalog=self.catalog,
            llm=llm,
            ranking=self.ranking,
            refine=refine,
            cache=self.cache,
            num_candidates=self.num_candidates,
            targets_per_user=self.targets_per_user,
            negatives=self.negatives,
            min_rating=self.min_rating,
            horizon=self.horizon,
            seed=self.seed,
        )


def default_option(name: str) -> Any:
    """The default of an option of `TrainConfig`."""
    option = TrainConfig.__dataclass_fields__[name]
    return option.default if option.default_factory is MISSING else option.default_factory()


def config_to_json(config: TrainConfig) -> dict[str, Any]:
    """The configuration as a JSON object, with the agent's name."""
    document = run_folder.to_json(config)
    document["agent"] = {"name": agent_name(config.agent), **document["agent"]}
    return document


def config_from_json(document: dict[str, Any]) -> TrainConfig:
    """What `config_to_json` wrote; RunError when this version has other options."""
    try:
        agent = dict(document["agent"])
        _, config_class = AGENTS[agent.pop("name")]
        options = {
            **document,
            "engine": EngineConfig(**document["engine"]),
            "ranking": RankingConfig(**document["ranking"]),
            "agent": config_class(**agent),
        }
        return TrainConfig(**options)
    except (KeyError, TypeError) as error:
        raise RunError(
            f"the run was made with other options than this version has: {error}"
        ) from error
