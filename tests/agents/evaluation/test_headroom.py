"""Headroom of rankings whose law is known, and of the recording that ships."""

from dataclasses import replace

import numpy as np
import pytest

from rpp_agents.evaluation.headroom import (
    _verdict,
    headroom_of_rankings,
    measure_headroom,
    transfer_gain,
)
from rpp_agents.evaluation.placebo import match_placebo, score_candidates
from rpp_agents.evaluation.statistics import Interval, bootstrap_instances
from rpp_agents.evaluation.variance import (
    expected_maximum_of_normals,
    standard_deviation,
    variance_components,
)
from rpp_env import load_recording, toy_mdp
from rpp_env.recordings import record

NUM_CANDIDATES = 10
NUM_PROMPTS = 24
GAINS = 1 / np.log2(np.arange(NUM_CANDIDATES) + 2)  # NDCG by rank, falling
SEEDS = range(100)


def planted_ranks(rng, *, sd, num_users=120, targets=2, prompt_sd=0.02, luck=0.25):
    """Ranks of targets, (N, K), and users, (N,), where NDCG depends on the prompt by a known law.

    The expected NDCG of (user, instance, prompt) is .6 + instance + prompt + user x prompt. Ranks
    are drawn so that it is met exactly: the two ranks around it, or, with probability `luck`, the
    first or the last one.
    """
    users = np.repeat(np.arange(num_users), targets)
    size = (len(users), NUM_PROMPTS)
    wanted = 0.6 + rng.uniform(-0.03, 0.03, (len(users), 1))
    wanted = wanted + prompt_sd * rng.choice([-1, 1], NUM_PROMPTS)
    wanted = wanted + sd * rng.standard_normal((num_users, NUM_PROMPTS))[users]
    wanted = np.clip(wanted, GAINS[-1], GAINS[0])
    worse = np.searchsorted(-GAINS, -wanted).clip(1)  # the first rank whose gain is no higher
    far = rng.random(size) < luck
    high, low = np.where(far, 0, worse - 1), np.where(far, NUM_CANDIDATES - 1, worse)
    upper = (wanted - GAINS[low]) / (GAINS[high] - GAINS[low])
    return np.where(rng.random(size) < upper, high, low), users


def planted_rankings(rng, **options):
    """Rankings, target slots and users with such ranks; other candidates are in random order."""
    ranks, users = planted_ranks(rng, **options)
    size = ranks.shape
    slots = rng.integers(NUM_CANDIDATES, size=len(users))
    order = rng.random((*size, NUM_CANDIDATES))
    np.put_along_axis(order, slots[:, None, None], np.inf, axis=2)
    others = order.argsort(axis=2)[..., : NUM_CANDIDATES - 1]
    places = np.arange(NUM_CANDIDATES) - (np.arange(NUM_CANDIDATES) > ranks[..., None])
    rankings = np.take_along_axis(others, places.clip(0, NUM_CANDIDATES - 2), axis=2)
    np.put_along_axis(rankings, ranks[..., None], slots[:, None, None], axis=2)
    return rankings, slots, users


def test_planted_rankings_are_rankings():
    rng = np.random.default_rng(0)
    rankings, slots, _ = planted_rankings(rng, sd=0.1, num_users=20)
    ranks, _ = planted_ranks(np.random.default_rng(0), sd=0.1, num_users=20)
    assert ((rankings == slots[:, None, None]).argmax(axis=2) == ranks).all()
    assert (np.sort(rankings, axis=2) == np.arange(NUM_CANDIDATES)).all()


@pytest.mark.parametrize("sd", [0.0, 0.01, 0.03, 0.1])
def test_the_interval_of_user_x_prompt_covers_what_was_planted(sd):
    covered = found = 0
    for seed in SEEDS:
        ranks, users = planted_ranks(np.random.default_rng(seed), sd=sd)
        estimate = standard_deviation(variance_components(GAINS[ranks], users).user_prompt)
        covered += estimate.low <= sd <= estimate.high
        found += estimate.low > 0
    print(f"sd {sd}: covered {covered} of 100, found {found}")
    assert covered >= 90
    # An interval that covers everything would tell nothing.
    assert found >= {0.0: 0, 0.01: 0, 0.03: 15, 0.1: 100}[sd]
    assert found <= 10 or sd > 0


def test_the_placebo_difference_is_0_where_nothing_is_planted():
    covered = covered_of_tries = 0
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(60), 2)
        # Some candidates are liked by every prompt, so that means differ, and no one is special.
        liked = 1.5 * rng.standard_normal((len(users), 1, NUM_CANDIDATES))
        noise = rng.gumbel(size=(len(users), NUM_PROMPTS, NUM_CANDIDATES))
        rankings = np.argsort(-(liked + noise), axis=2)
        slots = rng.integers(NUM_CANDIDATES, size=len(users))
        candidates = score_candidates(rankings, tries=5)
        every = np.arange(len(users))
        for scores in (candidates.best, candidates.best_of_tries):
            placebo = match_placebo(scores, candidates.mean, slots)
            luck = bootstrap_instances(
                scores[every, slots] - placebo.scores - placebo.errors, users
            )
            hit = luck.low <= 0 <= luck.high
            if scores is candidates.best:
                covered += hit
            else:
                covered_of_tries += hit
    print(f"placebo: {covered} and {covered_of_tries} of 100")
    assert covered >= 90
    assert covered_of_tries >= 90


def test_components_are_those_of_the_law():
    rng = np.random.default_rng(0)
    ranks, users = planted_ranks(rng, sd=0.1, num_users=2000, prompt_sd=0.05)
    rewards = GAINS[ranks]
    variance = variance_components(rewards, users)
    assert variance.prompt.mean == pytest.approx(0.05**2, rel=0.25)
    assert variance.user_prompt.mean == pytest.approx(0.1**2, rel=0.05)
    assert variance.instance.mean == pytest.approx(0.06**2 / 12, rel=0.3)
    assert variance.within_instance == pytest.approx((rewards.var(axis=1, ddof=1)).mean(), rel=1e-9)


def test_components_equal_sums_over_pairs():
    """The definition, written out: products of profiles, averaged over kinds of pairs."""
    rng = np.random.default_rng(1)
    users = np.repeat(np.arange(12), rng.integers(1, 4, size=12))
    users = np.concatenate([users, np.arange(12)])
    rewards = rng.random((len(users), 7))
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    products = centred @ centred.T / 6
    same = users[:, None] == users
    itself = np.eye(len(users), dtype=bool)
    variance = variance_components(rewards, users)
    prompt = products[~same].mean()
    assert variance.prompt.mean == pytest.approx(prompt)
    assert variance.user_prompt.mean == pytest.approx(products[same & ~itself].mean() - prompt)
    assert variance.within_instance == pytest.approx(products[itself].mean())


def test_single_target_users_are_said():
    rankings, slots, users = planted_rankings(np.random.default_rng(0), sd=0.1, targets=1)
    affinities = np.zeros(rankings[:, 0].shape)
    found = headroom_of_rankings(rankings, target_slots=slots, users=users, affinities=affinities)
    assert found.variance.user_prompt is None
    assert found.user_prompt_sd is found.static_gain is found.transfer is None
    assert found.num_repeated_users == 0
    assert found.verdict.startswith(
        "The user's part cannot be told: of 120 users none has more than one target"
    )


def test_one_repeated_user_is_too_few():
    rankings, slots, users = planted_rankings(np.random.default_rng(0), sd=0.1, targets=1)
    users[1] = users[0]
    found = headroom_of_rankings(
        rankings, target_slots=slots, users=users, affinities=np.zeros(rankings[:, 0].shape)
    )
    assert found.transfer is found.static_gain is None
    assert "of 119 users 1 has more than one target, and 10 are needed" in found.verdict


def test_a_planted_preference_is_found_and_said():
    rng = np.random.default_rng(0)
    rankings, slots, users = planted_rankings(rng, sd=0.1, targets=6, luck=0.0)
    found = headroom_of_rankings(
        rankings, target_slots=slots, users=users, affinities=rng.random(rankings[:, 0].shape)
    )
    assert found.user_prompt_sd.mean == pytest.approx(0.1, abs=0.01)
    assert found.static_gain.mean == pytest.approx(1.948 * found.user_prompt_sd.mean, abs=1e-3)
    # Five targets nearly tell a user's best prompt, which gains most of what is possible.
    assert 0.7 * found.static_gain.mean < found.transfer.low
    assert found.verdict.startswith("Which prompt is good depends on the user")
    assert "Feedback within the episode gains nothing" in found.verdict


def test_few_users_with_wide_intervals_are_said():
    rankings, slots, users = planted_rankings(np.random.default_rng(2), sd=0.0, num_users=12)
    found = headroom_of_rankings(
        rankings, target_slots=slots, users=users, affinities=np.zeros(rankings[:, 0].shape)
    )
    assert found.verdict.startswith("There are too few users to tell")


@pytest.mark.parametrize(
    ("low", "high", "oracle", "feedback"),
    [
        (0.01, 0.03, "exceeds its placebo by 0.020", "Feedback within the episode gains +0.020"),
        (-0.02, 0.04, "is luck", "gains nothing in 15 tries: +0.010 [-0.020, +0.040]"),
        (-0.17, 0.07, "is not told from luck by so few users", "is not told from 0: -0.050 [-0.17"),
    ],
)
def test_the_verdict_claims_no_more_than_its_intervals_show(low, high, oracle, feedback):
    rankings, slots, users = planted_rankings(np.random.default_rng(2), sd=0.0, num_users=12)
    found = headroom_of_rankings(
        rankings, target_slots=slots, users=users, affinities=np.zeros(rankings[:, 0].shape)
    )
    interval = Interval(mean=(low + high) / 2, low=low, high=high)
    most = replace(found.feedback[-1], gain=interval)
    prompt = replace(interval, high=high * found.variance.within_instance)
    told = " ".join(
        _verdict(
            replace(
                found,
                oracle_minus_placebo=interval,
                feedback=(*found.feedback[:-1], most),
                variance=replace(found.variance, prompt=prompt),
            )
        )
    )
    assert oracle in told
    assert feedback in told
    sure = "Which prompt is good for everybody" if low > 0 else "Whether a prompt is better for"
    assert sure in told


def test_transfer_is_that_of_the_best_prompt_on_other_targets():
    # Twelve users with the same two targets each; prompt 2 is best on the first, 0 and 1 on the
    # second, where they are tied.
    rewards = np.tile([[0.1, 0.2, 0.9], [0.8, 0.8, 0.2]], (12, 1))
    gain = transfer_gain(rewards, np.repeat(np.arange(12), 2))
    first = (0.1 + 0.2) / 2 - 1.2 / 3
    second = 0.2 - 1.8 / 3
    assert gain.mean == pytest.approx((first + second) / 2)
    assert gain.low == gain.high == pytest.approx(gain.mean)


def test_expected_maximum_of_normals():
    drawn = np.random.default_rng(0).standard_normal((200_000, 8)).max(axis=1)
    assert expected_maximum_of_normals(1) == pytest.approx(0, abs=1e-9)
    assert expected_maximum_of_normals(2) == pytest.approx(1 / np.sqrt(np.pi), abs=1e-6)
    assert expected_maximum_of_normals(8) == pytest.approx(drawn.mean(), abs=0.01)


def test_a_placebo_is_read_off_candidates_of_the_same_mean():
    """Where the best is a line in the mean, the placebo is on that line."""
    rng = np.random.default_rng(0)
    means = rng.random((40, 5))
    slots = rng.integers(5, size=40)
    placebo = match_placebo(0.3 + 0.5 * means, means, slots)
    assert placebo.errors == pytest.approx(0, abs=0.01)
    assert placebo.scores == pytest.approx(0.3 + 0.5 * means[np.arange(40), slots])
    with pytest.raises(ValueError, match="one candidate each; a placebo needs two"):
        match_placebo(means[:, :1], means[:, :1], np.zeros(40, int))


def test_the_shipped_recording_has_the_headroom_that_was_measured():
    recording = load_recording("ml-100k-smollm2-135m")
    found = measure_headroom(recording)
    assert (found.num_instances, found.num_users, found.num_repeated_users) == (840, 663, 177)
    assert found.oracle == pytest.approx(0.901, abs=0.001)
    assert found.placebo_oracle == pytest.approx(0.907, abs=0.001)
    luck = found.oracle_minus_placebo
    assert (luck.mean, luck.low, luck.high) == pytest.approx((-0.006, -0.015, 0.002), abs=0.002)
    assert found.transfer.mean == pytest.approx(-0.003, abs=0.001)
    assert found.transfer.high - found.transfer.low == pytest.approx(2 * 0.014, abs=0.002)
    assert found.user_prompt_sd.low == 0
    assert found.static_gain.high < 0.1
    assert [each.tries for each in found.feedback] == [1, 2, 5, 15]
    assert [each.score.mean for each in found.feedback] == pytest.approx(
        [0.50, 0.54, 0.60, 0.66], abs=0.01
    )
    assert found.feedback[0].gain.mean == 0
    assert found.verdict.startswith("Nothing that depends on the user can be learned")
    train = measure_headroom(recording, recording.instances.in_split("train")).variance
    assert train.within_instance == pytest.approx(0.032, abs=0.001)
    assert train.prompt.mean / train.within_instance == pytest.approx(0.02, abs=0.005)
    assert train.instance.mean == pytest.approx(0.020, abs=0.001)
    assert train.user_prompt.low < 0 < train.user_prompt.high


def test_a_recording_without_luck(tmp_path):
    """In the toy environment each type of user has one best prompt, whatever the instance."""
    mdp = toy_mdp(num_users=60, num_types=3, num_candidates=6)
    tokens = tuple(map(str, range(len(mdp.encoder.embeddings.items))))
    recording = record(mdp, tmp_path / "toy.npz", about={}, item_tokens=tokens, progress=False)
    # As if pairs of users were one, so that a user has two targets.
    twice = replace(recording, instances=replace(recording.instances, users=np.arange(60) // 2))
    found = measure_headroom(twice)
    assert found.oracle == 1.0
    assert found.to_json()["variance"]["rest"]["mean"] == found.variance.rest.mean
    with pytest.raises(ValueError, match="1 users and"):
        measure_headroom(recording, np.array([0]))
