"""BenchMARL on the environment as a task."""

import re

import pytest
import torch

# Of BenchMARL's own imports and of what it imports.
pytestmark = [pytest.mark.libraries, pytest.mark.filterwarnings("ignore")]

HORIZON = 5


def test_the_example_trains(run_example):
    printed = run_example("benchmarl_mappo.py", "2")
    found = re.search(r"^1920 steps: return (\d+\.\d+) of 15$", printed, re.M)
    assert 0.4 < float(found[1]) / 15 < 0.7
    test = re.search(r"^test users: NDCG@10 (0\.\d+)$", printed, re.M)
    assert 0.4 < float(test[1]) < 0.7


@pytest.mark.parametrize(
    ("algorithm", "padded"),
    [("Mappo", False), ("Ippo", True), ("Iql", False), ("Qmix", True), ("Vdn", True)],
)
def test_algorithms_train(algorithm, padded, tmp_path):
    import benchmarl.algorithms
    from benchmarl.experiment import Experiment, ExperimentConfig
    from benchmarl.models.mlp import MlpConfig

    from rpp_env.benchmarl import RPPTask

    config = ExperimentConfig.get_from_yaml()
    config.max_n_frames, config.max_n_iters = None, 2
    config.on_policy_collected_frames_per_batch = 20 * HORIZON
    config.off_policy_collected_frames_per_batch = 20 * HORIZON
    config.on_policy_minibatch_size = config.off_policy_train_batch_size = 50
    config.on_policy_n_minibatch_iters = config.off_policy_n_optimizer_steps = 2
    config.off_policy_init_random_frames = 0
    config.evaluation_interval, config.evaluation_episodes = 20 * HORIZON, 3
    config.render, config.loggers, config.create_json = False, [], False
    config.save_folder = str(tmp_path)
    experiment = Experiment(
        task=RPPTask(padded=padded, horizon=HORIZON),
        algorithm_config=getattr(benchmarl.algorithms, f"{algorithm}Config").get_from_yaml(),
        model_config=MlpConfig.get_from_yaml(),
        seed=0,
        config=config,
    )
    assert set(experiment.group_map) == ({"agents"} if padded else set(_agents()))
    before = [each.clone() for each in experiment.policy.parameters()]
    experiment.run()
    assert experiment.total_frames == 2 * 20 * HORIZON
    pairs = zip(before, experiment.policy.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)


def _agents():
    from rpp_env import PATTERNS

    return PATTERNS


def test_a_rollout_obeys_masks_and_environments_differ_in_their_users():
    from rpp_env.benchmarl import RPPTask

    make = RPPTask(padded=True, split="test", horizon=HORIZON).get_env_fun(1, False, 3, "cpu")
    envs = [make() for _ in range(3)]
    played = envs[0].rollout(10 * HORIZON, break_when_any_done=False)
    actions, mask = played["agents", "action"], played["agents", "action_mask"]
    assert mask[0].sum(dim=-1).tolist() == [2, 3, 3, 8]
    assert mask.gather(-1, actions.unsqueeze(-1)).all()
    assert played["next", "truncated"].sum() == 10
    assert not played["next", "terminated"].any()
    users = {tuple(env.reset()["state"][:64].tolist()) for env in envs}
    assert len(users) == 3


def test_wrong_options_are_named():
    from rpp_env.benchmarl import RPPTask

    with pytest.raises(ValueError, match=r"horizn is no option.*'horizon'"):
        RPPTask(horizn=3)
    with pytest.raises(ValueError, match="split='dev'"):
        RPPTask(split="dev")
