"""Copies of a view go on alone, and none of them carries an LLM."""

import copy
import multiprocessing
import os
import pickle

import gymnasium
import numpy as np
import pytest

import rpp_env
from rpp_env import PATTERNS, RPPEnv, RPPParallelEnv, RPPTupleEnv, RPPVectorEnv, toy_mdp
from rpp_env.envs.vector_parallel import RPPVectorParallelEnv
from rpp_env.llm import load_llm
from rpp_env.recommenders import LikelihoodRecommender, MemoryCachedRecommender
from rpp_env.sb3 import RPPVecEnv
from rpp_env.types import RankingBatch
from rpp_env.wrappers import FlattenAction, PadSpaces, SelectObservation, vector

HORIZON = 3
JOINT = np.array([0, 1, 2, 3])


def by_agent(num_envs=None):
    return {
        agent: choice if num_envs is None else np.full(num_envs, choice)
        for agent, choice in zip(PATTERNS, JOINT.tolist(), strict=True)
    }


VIEWS = {
    "single": (lambda mdp: RPPEnv(mdp), JOINT),
    "tuple": (lambda mdp: RPPTupleEnv(mdp), tuple(JOINT.tolist())),
    "vector": (lambda mdp: RPPVectorEnv(mdp, 2, autoreset_mode="SameStep"), np.stack([JOINT] * 2)),
    "parallel": (lambda mdp: RPPParallelEnv(mdp), by_agent()),
    "padded": (lambda mdp: PadSpaces(RPPParallelEnv(mdp)), by_agent()),
    "vector_parallel": (lambda mdp: RPPVectorParallelEnv(mdp, 2), by_agent(2)),
    "wrapped": (lambda mdp: FlattenAction(SelectObservation(RPPEnv(mdp), hide=("step",))), 7),
    "sb3": (
        lambda mdp: RPPVecEnv(RPPVectorEnv(mdp, 2, autoreset_mode="SameStep")),
        np.stack([JOINT] * 2),
    ),
    "aec": (lambda mdp: rpp_env.env(mdp), 0),
}


def rewards_of(env, action):
    """Of one step; the AEC environment's is the sum after one round."""
    if hasattr(env, "agent_selection"):
        for _ in PATTERNS:
            env.step(action)
        return dict(env.rewards)
    return env.step(action)[1]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_alone(name, duplicate):
    make, action = VIEWS[name]
    env = make(toy_mdp(num_users=40, horizon=9))
    if name == "sb3":
        env.seed(0)
        env.reset()
    else:
        env.reset(seed=0)
    rewards_of(env, action)
    twin = duplicate(env)
    first = rewards_of(env, action)
    again = rewards_of(twin, action)
    np.testing.assert_array_equal(
        list(first.values()) if isinstance(first, dict) else first,
        list(again.values()) if isinstance(again, dict) else again,
    )
    # Each has gone one step by itself, not two together.
    for each in (env, twin):
        inner = each.env if isinstance(each, RPPVecEnv) else each.unwrapped
        inner = getattr(inner, "par_env", inner).unwrapped  # what the AEC conversion holds
        assert set(inner.episodes.state.steps.tolist()) == {2}


class Unloadable:
    """Stands for an LLM whose weights must be neither loaded nor copied."""

    name = "unloadable"
    capabilities = frozenset({"loglikelihood"})

    def _refuse(self, *args, **kwargs):
        raise AssertionError("the LLM was used")

    loglikelihood = apply_chat_template = _refuse


@pytest.mark.parametrize("name", VIEWS)
def test_neither_constructor_nor_reset_asks_the_llm(name):
    mdp = toy_mdp(num_users=40, horizon=HORIZON)
    mdp.recommender = MemoryCachedRecommender(LikelihoodRecommender(Unloadable()))
    make, action = VIEWS[name]
    env = make(mdp)
    for _ in range(3):
        env.reset()
    with pytest.raises(AssertionError, match="the LLM was used"):
        rewards_of(env, action)


@pytest.mark.live
def test_the_live_environment_loads_its_llm_at_the_first_step(monkeypatch):
    from rpp_env.llm.transformers.transformers_llm import TransformersLLM

    def refuse(self):
        raise AssertionError("the LLM was loaded")

    monkeypatch.setattr(TransformersLLM, "_load_now", refuse)
    env = gymnasium.make("rpp/MovieLens-v0")
    batch = gymnasium.make_vec("rpp/MovieLens-v0", num_envs=2)
    recorded = gymnasium.make("rpp/MovieLensRecorded-v0")
    for each in (env, recorded):
        observation, _ = each.reset(seed=3)
    np.testing.assert_array_equal(env.reset(seed=3)[0], observation)
    np.testing.assert_array_equal(batch.reset(seed=3)[0][0], observation)
    with pytest.raises(AssertionError, match="the LLM was loaded"):
        env.step(JOINT % 2)


class Slow:
    """A recommender that says in which process it ranked."""

    llm_calls = 0

    def rank(self, prompts):
        size = (len(prompts), 10)
        return RankingBatch(
            rankings=np.tile(np.arange(10), (size[0], 1)),
            scores=np.full(size, float(os.getpid())),
            num_recognised=np.full(size[0], 10),
        )


def _step_in_child(env, results):
    results.put((env.step(JOINT)[1], os.getpid()))


def test_a_forked_process_steps_by_itself():
    mdp = toy_mdp(num_users=40, horizon=HORIZON)
    mdp.recommender = Slow()
    env = RPPEnv(mdp)
    env.reset(seed=0)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_step_in_child, args=(env, results))
    child.start()
    reward, process = results.get(timeout=60)
    child.join(60)
    assert process != os.getpid()
    assert env.episodes.state.steps[0] == 0
    assert env.step(JOINT)[1] == reward


def _score(llm, results):
    results.put([scores.tolist() for scores in llm.loglikelihood(["I saw Alien and"], [[" Heat"]])])
    llm.close()


@pytest.mark.live
@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_llm_that_was_used_before_a_fork_is_used_after_it(num_workers):
    llm = load_llm("transformers:smollm2-135m-instruct", device="cpu", num_workers=num_workers)
    try:
        expected = llm.loglikelihood(["I saw Alien and"], [[" Heat"]])
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        child = context.Process(target=_score, args=(llm, results))
        child.start()
        np.testing.assert_allclose(results.get(timeout=120), expected, atol=1e-4)
        child.join(60)
        assert child.exitcode == 0
        again = llm.loglikelihood(["I saw Alien and"], [[" Heat"]])
        np.testing.assert_allclose(again, expected, atol=1e-4)
    finally:
        llm.close()


def test_wrapped_in_gymnasium_specs_nothing_is_copied():
    mdp = toy_mdp(num_users=40)
    env = gymnasium.make("rpp/MovieLensRecorded-v0", mdp=mdp)
    assert env.spec.kwargs["mdp"] is mdp
    batch = vector.FlattenAction(gymnasium.make_vec("rpp/MovieLensRecorded-v0", 2, mdp=mdp))
    assert copy.deepcopy(batch).unwrapped.mdp is mdp
