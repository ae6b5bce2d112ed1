"""The functions that make environments, under their public names."""

import importlib

import pytest

import rpp_env


@pytest.mark.parametrize("name", ["parallel_env", "vector_parallel_env", "env", "raw_env"])
def test_a_maker_is_a_function_and_not_a_module(name):
    # A module of the name would be hidden by the function, and import as that function.
    with pytest.raises(ModuleNotFoundError, match=f"No module named 'rpp_env.{name}'"):
        importlib.import_module(f"rpp_env.{name}")


def test_importing_the_name_of_a_maker_as_a_module_is_an_error():
    with pytest.raises(ModuleNotFoundError):
        exec("import rpp_env.parallel_env as m", {})


def test_the_makers_make_environments():
    mdp = rpp_env.toy_mdp(num_users=20)
    assert isinstance(rpp_env.parallel_env(mdp), rpp_env.RPPParallelEnv)
    batch = rpp_env.vector_parallel_env(2, mdp)
    assert isinstance(batch, rpp_env.RPPVectorParallelEnv)
    assert batch.num_envs == 2
    for make in (rpp_env.env, rpp_env.raw_env):
        made = make(mdp)
        made.reset(seed=0)
        assert made.agent_selection == rpp_env.PATTERNS[0]
