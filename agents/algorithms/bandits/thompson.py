"""Thompson sampling in a Bayesian linear model of the reward (arXiv 1209.3352).

Agrawal and Goyal (2013). The expected reward of prompt c for user u is, up to a constant per
episode,

    f(u, c) = sum over patterns p of  m_p[c_p] . a_p  +  d_p[c_p]^T B_p u

with weights a_p and B_p, whose prior is normal. The posterior after n prompts is normal, too:

    precision P = I / scale^2 + X^T X / noise^2,    mean = P^-1 X^T y / noise^2

X holds the features of prompts and y their rewards. Both are differences from the mean of their
episode, so that what is alike for all prompts of a user drops out. A prompt that is repeated within
an episode counts once, since an LLM that decodes greedily ranks it in the same way again. ``noise``
is estimated from the same differences. While training, each prompt is the best one under a draw of
the weights. In the evaluation it is the prompt of highest posterior mean.

m_p[j] and d_p[j] stand for sentence j. Their inner products are the prior's correlations between
sentences. ``similarity`` is the share of these that the sentences' embeddings explain; the rest is
each sentence's own. So a reward of one sentence says something of those that are similar to it, and
each sentence can still be unlike all others. d_p keeps the ``num_directions`` main directions of
m_p.

An agent is not told the sentences' embeddings. They are computed from states: the part ``prompt``
is the mean of the embeddings of the sentences that ``choices`` shows, which is a system of linear
equations. Random prompts are played until the system can be solved, mostly for one rollout. (It
leaves a constant per pattern open, which does not matter.) Where states have no part ``prompt`` all
sentences are unlike. Where an LLM rewrites the sentences (RPP+), the solution is that of least
squares.

`values` returns the posterior mean of f for the prompt that the state shows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from rpp_agents.base import AgentSpec, Decision, Rollout
from rpp_agents.learning.centring import centre_episodes, first_plays
from rpp_agents.learning.saving import read_agent_json, write_agent_json
from rpp_agents.learning.sentence_model import LinearPosterior, PromptFeatures, SentenceEquations
from rpp_env.option_checks import check_between, check_count, check_positive
from rpp_env.types import FloatArray

_LEAST_NOISE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ThompsonConfig:
    """Settings of `ThompsonAgent`."""

    effect_std: float = 0.1
    """Prior standard deviation of the effect of a sentence on the reward."""
    user_std: float = 0.01
    """Prior standard deviation of how much that effect differs between users. Small, since chance
    differences between few train instances look like differences between users."""
    similarity: float = 0.8
    """Share of both variances that the embeddings of sentences explain."""
    num_directions: int = 8
    """Directions of a pattern's sentences in which users may differ, at most."""

    def __post_init__(self) -> None:
        check_positive(self, "effect_std", "user_std")
        check_between(self, 0, 1, "similarity")
        check_count(self, 1, "num_directions")


class ThompsonAgent:
    """A linear bandit over prompts that draws from its posterior; see the module's docstring.

    Args:
        spec: What the environment looks like.
        config: Settings.
        seed: Of the random prompts and of the draws.
    """

    name: ClassVar[str] = "thompson"
    explores_in_evaluation = False

    def __init__(
        self, spec: AgentSpec, config: ThompsonConfig | None = None, *, seed: int = 0
    ) -> None:
        self.spec = spec
        self.config = config or ThompsonConfig()
        self._seed = seed
        self._decisions = 0
        layout = spec.state_layout
        self._prompt = layout.slice("prompt") if layout and "prompt" in layout else slice(0, 0)
        width = self._prompt.stop - self._prompt.start
        self._equations = SentenceEquations(spec.action_sizes, width)
        self._embeddings: list[FloatArray] = []  # of each pattern, once they are known
        self._user_scale = 1.0
        self._squares = np.zeros(2)  # sum of squares of centred rewards, and degrees of freedom

    def act(
        self, observations: Mapping[str, FloatArray], state: FloatArray, *, explore: bool = True
    ) -> Decision:
        """The best prompt under a draw (`explore`) or under the posterior mean; see `Agent`."""
        rng = np.random.default_rng((self._seed, self._decisions))
        self._decisions += 1
        if self._embeddings:
            users = self._users(state)
            weights = self._posterior.draw(rng, len(state)) if explore else self._means(len(state))
            scores = self._features.scores(users, weights)
        else:
            scores = [rng.random((len(state), size)) for size in self.spec.action_sizes]
        actions = np.stack([each.argmax(axis=1) for each in scores], axis=1)
        return Decision(
            actions=actions, log_probs=np.zeros(actions.shape), values=self.values(state)
        )

    def values(self, state: FloatArray) -> FloatArray:
        """Posterior mean of f for the prompt that the state shows, the best where it shows none.

        0 before anything is learned; NaN where layouts do not tell what a state shows.
        """
        shown = self.spec.shown_choices(state)
        if shown is None:
            return np.full(len(state), np.nan)
        if not self._embeddings:
            return np.zeros(len(state))
        total = np.zeros(len(state))
        scores = self._features.scores(self._users(state), self._means(len(state)))
        for each, chosen in zip(scores, shown.T, strict=True):
            kept = np.where(chosen < 0, each.argmax(axis=1), chosen)
            total += np.take_along_axis(each, kept[:, None], axis=1)[:, 0]
        return total

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Updates the posterior, once the sentences' embeddings are known; see `Agent`."""
        valid = rollout.valid
        if not self._embeddings:
            self._equations.observe(
                rollout.actions[valid], rollout.states[1:][valid][:, self._prompt]
            )
            self._begin(self._equations.solve(), rollout)
        if not self._embeddings:
            return {"noise": 0.0, "uncertainty": 1.0}
        valid = valid & first_plays(rollout.actions)
        num_steps, num_envs = valid.shape
        flat = rollout.states[:-1].reshape(num_steps * num_envs, -1)
        features = self._features(
            self._users(flat), rollout.actions.reshape(num_steps * num_envs, -1)
        ).reshape(num_steps, num_envs, -1)
        gains = centre_episodes(rollout.rewards, valid)[valid]
        self._posterior.observe(centre_episodes(features, valid)[valid], gains)
        freedom = len(gains) - (num_envs if num_steps > 1 else 1)
        self._squares += np.array([gains @ gains, freedom])
        noise = self._condition()
        # Share of the prior's variance that is left, mean over weights.
        left = np.trace(self._posterior.covariance) / self._features.size
        return {"noise": noise, "uncertainty": float(left)}

    def save(self, folder: Path) -> None:
        """Writes the posterior, the sentences' embeddings and the settings."""
        config = {
            **asdict(self.config),
            "seed": self._seed,
            "decisions": self._decisions,
            "user_scale": self._user_scale,
        }
        write_agent_json(folder, name=self.name, spec=self.spec, config=config)
        arrays: dict[str, np.ndarray] = {
            "together": self._equations.together,
            "shown": self._equations.shown,
            "squares": self._squares,
        }
        if self._embeddings:
            arrays |= {f"embeddings.{i}": each for i, each in enumerate(self._embeddings)}
            arrays |= {"gram": self._posterior.gram, "moment": self._posterior.moment}
        save_file(arrays, folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The agent as it was saved; see `Agent`."""
        spec, config = read_agent_json(folder, name=cls.name)
        seed, decisions, scale = (config.pop(key) for key in ("seed", "decisions", "user_scale"))
        agent = cls(spec, ThompsonConfig(**config), seed=seed)
        agent._decisions = decisions
        weights = load_file(folder / "weights.safetensors")
        agent._equations.together = weights["together"]
        agent._equations.shown = weights["shown"]
        agent._squares = weights["squares"]
        if "gram" in weights:
            known = [weights[f"embeddings.{i}"] for i in range(len(spec.agents))]
            num_users = spec.users(np.zeros((1, spec.state_size))).shape[1]
            agent._set_model(known, num_users, scale)
            agent._posterior.gram, agent._posterior.moment = weights["gram"], weights["moment"]
            agent._condition()
        return agent

    def _begin(self, embeddings: list[FloatArray] | None, rollout: Rollout) -> None:
        if embeddings is None:
            return
        users = self.spec.users(rollout.states[:-1])[rollout.valid].astype(np.float64)
        length = float(np.sqrt((users**2).sum(axis=1).mean()))
        self._set_model(embeddings, users.shape[1], 1 / length if length > 0 else 1.0)

    def _set_model(self, embeddings: list[FloatArray], num_users: int, user_scale: float) -> None:
        self._embeddings = embeddings
        self._user_scale = user_scale
        self._features = PromptFeatures(
            embeddings,
            num_users=num_users,
            effect_std=self.config.effect_std,
            user_std=self.config.user_std,
            similarity=self.config.similarity,
            num_directions=self.config.num_directions,
        )
        self._posterior = LinearPosterior(self._features.size)

    def _condition(self) -> float:
        """Brings the posterior up to date, with the noise that rewards have shown so far."""
        squares, freedom = self._squares
        noise = max(float(np.sqrt(squares / max(freedom, 1))), _LEAST_NOISE)
        self._posterior.condition(noise)
        return noise

    def _users(self, state: FloatArray) -> FloatArray:
        return self.spec.users(state).astype(np.float64) * self._user_scale

    def _means(self, num_rows: int) -> FloatArray:
        return np.tile(self._posterior.mean, (num_rows, 1))
