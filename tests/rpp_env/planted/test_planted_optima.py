"""The optimum of each axis against brute force or dynamic programming."""

import functools
import itertools

import numpy as np
import pytest

from rpp_env.planted import AXES, evaluate_policy, planted_task
from rpp_env.planted.coordination import stag_hunt, two_pairs
from rpp_env.planted.feedback import feedback
from rpp_env.planted.memory import memory
from rpp_env.rewards import ndcg_of_ranks

SMALL = [
    (axis, level)
    for axis in ("shared", "noise", "user", "users", "coordination", "cost", "sentences")
    for level in AXES[axis]
    if (axis, level) not in {("sentences", "32"), ("sentences", "256")}
]


def prompts(task):
    return np.array(list(itertools.product(*map(range, task.mdp.catalog.num_choices))))


def rewards_of_prompts(task, ids):
    """E[reward] of every prompt for every user. Shape: (prompts, U)."""
    every = prompts(task)
    return task.expected_rewards(ids, np.repeat(every[:, None], len(ids), axis=1))


@pytest.mark.parametrize(("axis", "level"), SMALL)
def test_where_steps_do_not_matter_the_optimum_is_the_best_of_all_prompts(axis, level):
    """The user is all that can be seen, so that no policy can do better than its best prompt."""
    task = planted_task(axis, level)
    rewards = rewards_of_prompts(task, task.mdp.instances.in_split("test"))
    assert task.optimum == pytest.approx(rewards.max(axis=0).mean(), abs=1e-9)
    assert task.random == pytest.approx(rewards.mean(), abs=1e-9)


@pytest.mark.parametrize("level", ["32", "256"])
def test_among_many_sentences_no_change_of_one_sentence_is_better(level):
    """The law adds what each pattern is worth, so that a best sentence of each is best of all."""
    task = planted_task("sentences", level)
    best = task.make_policy()(task.mdp.observation(task.mdp.initial(np.array([0]))))[0]
    for pattern, size in enumerate(task.mdp.catalog.num_choices):
        changed = np.tile(best, (size, 1))
        changed[:, pattern] = np.arange(size)
        rewards = task.expected_rewards(np.array([0]), changed[:, None])
        assert rewards.max() == pytest.approx(task.optimum, abs=1e-9)


@pytest.mark.parametrize("level", ["32", "256"])  # 4 sentences are fewer than dimensions
def test_the_value_of_a_sentence_carries_over_to_unseen_ones(level):
    """Least squares on the embeddings of half of the sentences gives the value of the others."""
    task = planted_task("sentences", level)
    num = task.mdp.catalog.num_choices[0]
    for table, embeddings in zip(task.law.tables, task.mdp.encoder.sentences, strict=True):
        logits = np.log(table[0] / (1 - table[0]))
        half = num // 2
        weights, *_ = np.linalg.lstsq(embeddings[:half], logits[:half], rcond=None)
        np.testing.assert_allclose(embeddings[half:] @ weights, logits[half:], atol=1e-4)


@pytest.mark.parametrize("level", AXES["sequence"])
def test_sequence_by_dynamic_programming(level):
    """Over (steps left, records): the best reward at the end, and the best reward on the way."""
    task = planted_task("sequence", level)
    mdp, longest = task.mdp, task.mdp.instances.histories.shape[1]
    added = [entry.records for entry in mdp.catalog.history_records]
    first = np.zeros(longest + 1, int)
    worth = task.law.expected_reward(first, np.zeros((longest + 1, 4), int), np.arange(longest + 1))
    last, best, mean = worth.copy(), worth.copy(), worth.copy()
    for _ in range(mdp.horizon):
        reached = np.minimum(np.arange(longest + 1)[:, None] + added, longest)
        last, mean = last[reached].max(axis=1), mean[reached].mean(axis=1)
        best = np.maximum(worth[reached], best[reached]).max(axis=1)
    assert task.optimum == pytest.approx(last[0], abs=1e-12)
    assert task.optimum == pytest.approx(best[0], abs=1e-12)  # the critic rule has the same
    assert task.random == pytest.approx(mean[0], abs=1e-12)


def test_in_the_valley_greed_is_punished():
    task = planted_task("sequence", "valley")

    def stay(states):
        return np.zeros((len(states), 4), int)

    assert evaluate_policy(task, stay).score < 0.5


def best_search(options, *, joint, horizon):
    """E[reward at the last step] of the best search, by dynamic programming over beliefs.

    A belief is the set of prompts that can still be the best one; all are equally likely.
    """

    def reward(choice, best):
        matches = [a == b for a, b in zip(choice, best, strict=True)]
        quality = all(matches) if joint else np.mean(matches)
        return float(ndcg_of_ranks(np.floor((1 - quality) * 9 + 0.5), k=10))

    @functools.cache
    def value(belief, steps):
        results = []
        for choice in options:
            seen = {}
            for best in belief:
                seen.setdefault(reward(choice, best), []).append(best)
            if steps == 1:
                results.append(sum(r * len(who) for r, who in seen.items()) / len(belief))
            elif len(seen) > 1:  # what tells nothing need not be tried
                parts = (len(who) * value(frozenset(who), steps - 1) for who in seen.values())
                results.append(sum(parts) / len(belief))
        return max(results, default=1.0)

    return value(frozenset(options), horizon)


@pytest.mark.parametrize(
    ("sizes", "matters", "joint"),
    [
        ((2, 2, 4, 2), [2], True),  # easy
        ((2, 2, 3, 3), [2, 3], True),  # middle
        ((2, 2, 2, 2), [0, 1, 2, 3], False),  # hard, with fewer sentences
    ],
)
def test_feedback_by_dynamic_programming_over_beliefs(sizes, matters, joint):
    task = feedback("small", sizes=sizes, matters=matters, joint=joint, seed=0)
    options = tuple(itertools.product(*(range(sizes[pattern]) for pattern in matters)))
    assert best_search(options, joint=joint, horizon=task.mdp.horizon) == pytest.approx(1.0)
    assert task.optimum == 1.0
    assert evaluate_policy(task, task.make_policy()).score == pytest.approx(1.0)
    rewards = rewards_of_prompts(task, task.mdp.instances.in_split("test"))
    assert task.random == pytest.approx(rewards.mean(), abs=1e-9)


@pytest.mark.parametrize("level", AXES["feedback"])
def test_without_feedback_nothing_can_be_gained(level):
    """The best prompts of users have nothing in common with their embeddings."""
    task = planted_task("feedback", level)
    train, test = (task.mdp.instances.in_split(split) for split in ("train", "test"))
    groups = task.mdp.encoder.embeddings.users.argmax(axis=1)
    rng = np.random.default_rng(0)
    options = rng.permutation(prompts(task))[:64]

    def rewards(ids):
        return task.expected_rewards(ids, np.repeat(options[:, None], len(ids), axis=1))

    on_train, on_test = rewards(train), rewards(test)
    reached = [
        on_test[on_train[:, groups[train] == group].mean(axis=1).argmax()][groups[test] == group]
        for group in range(8)
    ]
    assert abs(task.score(np.concatenate(reached).mean())) < 0.12


@pytest.mark.parametrize("horizon", [3, 4])
def test_memory_by_brute_force(horizon):
    """With the first ranking in mind the cue is known; by the last ranking alone it is not.

    Observations after the second step are the same for every cue but for the place of the target,
    which looks like any other candidate: so a policy without memory chooses one sentence blindly.
    """
    task = memory("small", horizon=horizon, seed=0)
    ids = task.mdp.instances.in_split("test")
    cues = task.law.cues[ids]
    blind = [
        task.expected_rewards(ids, np.full((horizon, len(ids), 4), sentence) % [2, 2, 4, 2])[-1]
        for sentence in range(4)
    ]
    miss = ndcg_of_ranks(np.array(9), k=10)
    for sentence, rewards in enumerate(blind):
        np.testing.assert_allclose(rewards, np.where(cues == sentence, 1.0, miss))
    assert task.random == pytest.approx((1 + 3 * miss) / 4)
    assert task.optimum == 1.0
    assert np.max([rewards.mean() for rewards in blind]) < 0.55


def test_the_cue_is_seen_after_the_first_step_alone():
    task = planted_task("memory", "hard")
    mdp, at = task.mdp, task.mdp.encoder.state_layout.slice
    ids = mdp.instances.in_split("test")
    rng, state = np.random.default_rng(0), mdp.initial(ids)
    for step in range(4):
        state = mdp.transition(state, rng.integers((2, 2, 4, 2), size=(len(ids), 4)))
        seen = mdp.observation(state)
        places = seen[:, at("affinities")].argmax(axis=1)
        if step == 0:
            np.testing.assert_array_equal(places, 2 * task.law.cues[ids])
        else:
            assert set(places) == {8}
        assert not seen[:, at("choices")].any()
        assert not seen[:, at("prompt")].any()


def greedy_moves(payoff):
    """The move of each player that is best while the others choose uniformly."""
    others = [tuple(set(range(4)) - {player}) for player in range(4)]
    return tuple(int(payoff.mean(axis=axes).argmax()) for axes in others)


@pytest.mark.parametrize(
    "payoff",
    [
        two_pairs([[11, -10, 0], [-10, 7, 6], [0, 6, 5]]),
        two_pairs([[11, -30, 0], [-30, 7, 6], [0, 0, 5]]),
        stag_hunt(),
    ],
)
def test_in_climbing_games_the_greedy_choice_is_wrong(payoff):
    assert payoff[greedy_moves(payoff)] < payoff.max() == 1
    assert payoff[0, 0, 0, 0] == 1
