"""Numbers that make no sense are refused by name, and nothing is changed by the attempt."""

import numpy as np
import pytest

from rpp_env import RPPParallelEnv, RPPVectorParallelEnv, toy_mdp


@pytest.mark.parametrize("horizon", [0, -1, 2.5, "3"])
def test_a_horizon_is_a_whole_number(horizon):
    with pytest.raises(ValueError, match=f"horizon={horizon!r}"):
        toy_mdp(num_users=20, horizon=horizon)


@pytest.mark.parametrize("seed", [-1, 1.7, "1", 2**63])
def test_a_refused_seed_changes_nothing(seed):
    env = RPPParallelEnv(toy_mdp(num_users=20))
    before, _ = env.reset(seed=5)
    with pytest.raises(ValueError, match=f"seed={seed!r}"):
        env.reset(seed=seed)
    again, _ = env.reset(seed=5)
    np.testing.assert_array_equal(before["role_playing"], again["role_playing"])


@pytest.mark.parametrize("num_envs", [0, -2, 2.5])
def test_num_envs_is_a_whole_number(num_envs):
    with pytest.raises(ValueError, match=f"num_envs={num_envs}"):
        RPPVectorParallelEnv(toy_mdp(num_users=20), num_envs)
