import json
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from rich.console import Console

from rpp_agents import AgentSpec, make_agent
from rpp_agents.benchmark.cell_files import cell_path
from rpp_agents.benchmark.experiment import Cell, Variant, run_cell
from rpp_agents.benchmark.leaderboard_report import to_markdown
from rpp_agents.cli import benchmark_command as benchmark
from rpp_agents.cli import main as cli
from rpp_agents.cli.benchmark_command import Benchmark, run_benchmark, variants, write_results
from rpp_agents.cli.tables import leaderboard_table
from rpp_agents.evaluation.exact_bounds import find_bounds
from rpp_agents.rollouts.play import play
from rpp_env import toy_mdp, vector_parallel_env
from rpp_env.errors import RunError
from rpp_env.recordings import record, recorded_mdp
from rpp_env.rewards import ndcg_of_ranks
from rpp_env.types import SPLITS


# Local, so that loky sends its code to workers, which cannot import this module.
def toy_maker(**options):
    from rpp_env import toy_mdp

    def make(*, horizon, hide, keep):
        return toy_mdp(**{"num_users": 40, "num_types": 2, "horizon": horizon, **options})

    return make


def small(out, **options):
    given = {"recording": "toy", "agents": ("a2c", "fixed"), "seeds": 2, "iterations": 3}
    given |= {"num_envs": 4, "horizon": 3, "measurements": 2, "jobs": 1, "out": out}
    return Benchmark(**(given | options))


def without_times(board):
    document = board.to_json()
    for row in document["rows"]:
        del row["seconds"]
    return json.dumps(document)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = small(tmp_path_factory.mktemp("benchmark") / "toy")
    return config, run_benchmark(config, toy_maker())


def one_cell(**options):
    given = {"agent": "a2c", "seed": 0, "iterations": 3, "num_envs": 4, "measurements": 3}
    return Cell(variant=Variant(name="full", horizon=3), **(given | options))


def test_a_leaderboard_has_every_agent_beside_the_bounds(finished, tmp_path):
    config, board = finished
    assert {row.name for row in board.rows} == {"a2c", "fixed"}
    assert [row.score.mean for row in board.rows] == sorted(
        (row.score.mean for row in board.rows), reverse=True
    )
    rows = {row.name: row for row in board.rows}
    assert rows["a2c"].rule == "critic"
    assert rows["fixed"].rule == "last"
    assert rows["fixed"].critic is None
    oracle, best_fixed = board.line("oracle, every prompt"), board.line("best fixed prompt")
    for row in board.rows:
        assert row.score.low <= row.score.mean <= row.score.high
        assert row.score.mean <= row.best_try <= oracle.mean.mean == 1.0
        assert row.gain.mean == pytest.approx(row.score.mean - best_fixed.mean.mean)
        assert 0 <= row.improvement.low <= row.improvement.high <= 1
        assert row.regret_to_best_fixed < row.regret_to_oracle
        assert row.llm_calls == 3 * 4 * 3
        assert row.curve.llm_calls == (0, 24, 36)
        assert row.seconds["total"] >= row.seconds["learning"] > 0
    placebo = board.line("placebo oracle, every prompt")
    assert oracle.mean.mean - placebo.mean.mean == pytest.approx(
        oracle.gain.mean - placebo.gain.mean
    )
    assert rows["fixed"].random_under_critic is None
    assert rows["fixed"].gain_over_random is None
    under_critic, gain = rows["a2c"].random_under_critic, rows["a2c"].gain_over_random
    assert under_critic.low <= under_critic.mean <= under_critic.high
    assert gain.mean == pytest.approx(rows["a2c"].critic.mean - under_critic.mean)
    paths = write_results(board, tmp_path)
    assert [path.name for path in paths] == [
        *("leaderboard.json", "leaderboard.md", "leaderboard.svg", "curves.svg"),
    ]
    document = json.loads(paths[0].read_text("utf-8"))
    assert {"command", "commit", "cores", "versions", "seeds"} <= document.keys()
    assert document["command"].startswith("rpp benchmark --study leaderboard --seeds 2")
    headroom = document["headroom"]
    assert headroom["oracle"] == 1.0
    assert headroom["oracle_minus_placebo"].keys() == {"mean", "low", "high"}
    assert headroom["variance"].keys() == {"instance", "prompt", "user_prompt", "rest"}
    assert headroom["transfer"] is headroom["variance"]["user_prompt"] is None  # one target each
    by_name = {row["name"]: row for row in document["rows"]}
    assert by_name["fixed"]["random_under_critic"] is None
    assert by_name["a2c"]["random_under_critic"].keys() == {"mean", "low", "high"}
    text = paths[1].read_text("utf-8")
    assert "The user's part cannot be told" in text
    assert "| its placebo | non-target candidates |" in text
    for name in ("a2c", "fixed", "chance", "random prompt", "LightGCN alone", config.command):
        assert name in text


def test_pictures_of_the_same_numbers_are_the_same_files(finished, tmp_path):
    pictures = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        pictures.append([path.read_bytes() for path in write_results(finished[1], folder)])
    assert pictures[0] == pictures[1]


def test_a_cell_that_is_missing_is_run_again_to_the_same_end(finished):
    config, board = finished
    cells = sorted((config.folder / "cells").glob("*.npz"))
    assert len(cells) == 4
    kept = {path: path.stat().st_mtime_ns for path in cells[1:]}
    cells[0].unlink()
    again = run_benchmark(config, toy_maker())
    assert without_times(again) == without_times(board)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_processes_change_nothing(finished, tmp_path):
    _, board = finished
    parallel = run_benchmark(small(tmp_path / "toy", jobs=2), toy_maker())
    assert [row.score for row in parallel.rows] == [row.score for row in board.rows]
    assert [row.curve for row in parallel.rows] == [row.curve for row in board.rows]


def test_the_same_seed_gives_the_same_scores_and_another_does_not():
    first, second = (run_cell(one_cell(), toy_maker()) for _ in range(2))
    other = run_cell(one_cell(seed=1), toy_maker())
    for name in ("last", "critic", "validation", "test", "training_rewards"):
        assert (getattr(first, name) == getattr(second, name)).all()
        assert (getattr(first, name) != getattr(other, name)).any()


def test_measuring_does_not_change_the_training():
    often, rarely = (
        run_cell(one_cell(measurements=count), toy_maker()).training_rewards for count in (3, 1)
    )
    assert (often == rarely).all()


def test_validation_users_choose_what_is_kept_and_test_users_do_not():
    mdp = toy_mdp(num_users=40, num_types=2, horizon=3)
    result = run_cell(one_cell(iterations=6, measurements=6), toy_maker())
    assert result.chosen == result.validation[:, 1].argmax()
    assert result.critic.mean() == pytest.approx(result.test[result.chosen, 1])
    assert result.last.mean() == pytest.approx(result.test[result.chosen, 0])
    assert (result.test_ids == mdp.instances.in_split("test")).all()
    assert set(mdp.instances.splits[result.training_ids.ravel()]) == {SPLITS.index("train")}
    assert (result.best_try >= np.maximum(result.last, result.critic)).all()


def test_a_critic_chooses_among_the_tries_of_a_random_policy():
    """Affinity's critic is the same whatever it learns, so that its choice can be made by hand."""
    mdp = toy_mdp(num_users=40, num_types=2, horizon=3)
    result = run_cell(one_cell(agent="affinity", seed=5), toy_maker())
    env = vector_parallel_env(4, mdp)
    env.reset(seed=0)
    spec = AgentSpec.of(env)
    played = play(
        mdp, make_agent("random", spec, seed=5), result.test_ids, num_envs=256, label="random"
    )
    agent = make_agent("affinity", spec, seed=5)
    values = np.stack([agent.values(states) for states in played.states])
    by_hand = ndcg_of_ranks(played.by_highest_value(values), k=10)
    assert (result.random_under_critic == by_hand).all()
    assert np.isnan(run_cell(one_cell(agent="random"), toy_maker()).random_under_critic).all()


def test_an_agent_without_a_critic_has_no_score_under_its_rule():
    result = run_cell(one_cell(agent="random"), toy_maker())
    assert np.isnan(result.critic).all()
    assert result.chosen == result.validation[:, 0].argmax()


def test_bounds_are_exact():
    mdp = toy_mdp(num_users=40, num_types=2)
    bounds = find_bounds(mdp)
    train = mdp.instances.in_split("train")
    by_prompt = {}
    for choices in np.ndindex(mdp.catalog.num_choices):
        actions = np.tile(np.array(choices), (len(train), 1))
        state = mdp.transition(mdp.initial(train), actions)
        by_prompt[choices] = mdp.ndcg(state, k=10)
    means = {choices: scores.mean() for choices, scores in by_prompt.items()}
    assert means[bounds.best_choices] == max(means.values())
    assert bounds.best_fixed[train] == pytest.approx(by_prompt[bounds.best_choices])
    assert bounds.random[train].mean() == pytest.approx(np.mean(list(means.values())))
    assert (bounds.oracle == 1.0).all()
    assert bounds.chance == pytest.approx(np.mean(1 / np.log2(np.arange(10) + 2)))
    assert bounds.made_of != find_bounds(toy_mdp(num_users=40, num_types=3)).made_of


def test_an_ablation_compares_variants_of_one_agent(tmp_path):
    config = small(tmp_path / "out", study="ablation", agents=("random",), seeds=1, iterations=1)
    board = run_benchmark(config, toy_maker())
    assert [row.name for row in board.rows] == [
        *("full", "without-ranking-feedback", "without-affinities", "without-own-choice"),
        *("without-role_playing", "without-history_records", "without-reasoning_guidance"),
        *("without-output_format", "horizon-1", "horizon-2"),
    ]
    first, *others = board.rows
    assert first.change_last is None
    assert all(row.change_last is not None for row in others)
    # Each variant may take as many LLM calls as the others.
    assert {row.llm_calls for row in board.rows} == {12}
    assert "change" in to_markdown(board)
    names = [path.name for path in write_results(board, tmp_path)]
    assert names == ["ablation.json", "ablation.md", "ablation.svg"]


def test_variants_hide_and_keep():
    config = small(None, study="ablation", agents=None, horizon=15)
    found = {variant.name: variant for variant in variants(config, (1, 0, 2, 3))}
    assert config.compared == ("a2c",)
    assert found["without-ranking-feedback"].hide == ("ranked_items", "affinities")
    assert found["without-own-choice"].hide == ("choices",)
    assert found["without-reasoning_guidance"].keep == {"reasoning_guidance": (2,)}
    assert [found[f"horizon-{steps}"].horizon for steps in (1, 2, 5)] == [1, 2, 5]
    assert len(found) == 11


def test_a_process_killed_within_a_cell_leaves_whole_cells_only(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from rpp_agents.cli.benchmark_command import Benchmark, run_benchmark
        from rpp_env import toy_mdp

        made = []

        def make(*, horizon, hide, keep):
            mdp = toy_mdp(num_users=40, num_types=2, horizon=horizon)
            made.append(mdp)
            if len(made) == 4:  # of the third cell
                rank, calls = mdp.recommender.rank, []
                def die_at_the_fifth_call(prompts):
                    calls.append(prompts)
                    if len(calls) == 5:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return rank(prompts)
                mdp.recommender.rank = die_at_the_fifth_call
            return mdp

        config = Benchmark(
            recording="toy", agents=("random", "fixed"), seeds=2, iterations=3, num_envs=4,
            horizon=3, measurements=2, jobs=1, out=Path(sys.argv[1]),
        )
        run_benchmark(config, make)
    """)
    config = small(tmp_path / "toy", agents=("random", "fixed"))
    done = subprocess.run(
        [sys.executable, "-c", script, str(config.folder)], capture_output=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    cells = config.folder / "cells"
    names = {path.name for path in cells.iterdir()}
    assert names == {"random.full.0.npz", "random.full.1.npz", ".lock"}
    (cells / ".fixed.full.0.npz.1.partial").write_bytes(b"half")  # killed while it wrote
    resumed = run_benchmark(config, toy_maker())
    assert not list(cells.glob("*partial")) + list(cells.glob(".*partial"))
    assert {path.name for path in cells.glob("*.npz")} == {
        *("random.full.0.npz", "random.full.1.npz", "fixed.full.0.npz", "fixed.full.1.npz"),
    }
    whole = run_benchmark(small(tmp_path / "toy-again", agents=("random", "fixed")), toy_maker())
    assert resumed.rows[0].score == whole.rows[0].score


@pytest.mark.parametrize("content", [b"", b"not a zip file", None])
def test_a_damaged_cell_is_named(content, tmp_path):
    config = small(tmp_path / "toy", agents=("random",), seeds=1)
    run_benchmark(config, toy_maker())
    path = config.folder / "cells" / "random.full.0.npz"
    half = path.read_bytes()[:-100]
    path.write_bytes(half if content is None else content)
    with pytest.raises(RunError, match=r"random\.full\.0\.npz is damaged.*delete it"):
        run_benchmark(config, toy_maker())


def test_cells_of_other_options_or_other_data_are_refused(tmp_path):
    config = small(tmp_path / "toy", agents=("random",), seeds=1)
    run_benchmark(config, toy_maker())
    with pytest.raises(RunError, match=r"iterations=3, not 2.*choose another --out"):
        run_benchmark(small(config.folder, agents=("random",), seeds=1, iterations=2), toy_maker())
    with pytest.raises(RunError, match=r"another recording.*choose another --out"):
        run_benchmark(config, toy_maker(seed=1))


def test_a_cell_that_fails_is_named_and_the_others_stay(tmp_path):
    def failing(*, horizon, hide, keep):
        made.append(toy_mdp(num_users=40, horizon=horizon))
        if len(made) == 3:
            raise MemoryError("no room")
        return made[0]

    made = []
    config = small(tmp_path / "toy", agents=("random",))
    with pytest.raises(RunError, match=r"agent 'random', seed 1.*no room"):
        run_benchmark(config, failing)
    assert [path.name for path in (config.folder / "cells").glob("*.npz")] == ["random.full.0.npz"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_instances_is_an_error(split, tmp_path):
    def make(*, horizon, hide, keep):
        mdp = toy_mdp(num_users=40, horizon=horizon)
        mdp.instances.splits[mdp.instances.in_split(split)] = (SPLITS.index(split) + 1) % 3
        return mdp

    with pytest.raises(ValueError, match=f"split='{split}' has no instance"):
        run_benchmark(small(tmp_path / "toy"), make)
    assert not (tmp_path / "toy").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agents": ("a2d",)}, "Did you mean 'a2c'"),
        ({"agents": ("a2c", "a2c")}, "each of them once"),
        ({"seeds": 0}, "seeds=0 must be a whole number, 1 or more"),
        ({"jobs": 0}, "jobs=0 must be a whole number, 1 or more"),
        ({"iterations": 0}, "iterations=0"),
        ({"study": "leaderbord"}, "Did you mean 'leaderboard'"),
        ({"study": "ablation", "agents": ("a2c", "fixed")}, "of one agent"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Benchmark(**options)


def test_out_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file; name a folder"):
        Benchmark(out=tmp_path / "file")


def test_a_wrong_option_of_the_command_leaves_nothing(caplog, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(["benchmark", "--agents", "a2d"])
    except SystemExit as stopped:
        status = stopped.code
    assert status
    assert "a2d" in caplog.text + "".join(capsys.readouterr())
    assert list(tmp_path.iterdir()) == []


def test_the_command_ablates_a_recording(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mdp = toy_mdp(num_users=30, num_types=2, num_candidates=5)
    tokens = tuple(map(str, range(len(mdp.encoder.embeddings.items))))
    recording = record(mdp, tmp_path / "toy.npz", about={}, item_tokens=tokens, progress=False)
    monkeypatch.setattr(
        benchmark, "recorded_mdp", lambda _, **options: recorded_mdp(recording, **options)
    )
    options = "--study ablation --agents linucb --seeds 2 --iterations 3 --num-envs 4 --jobs 1"
    assert cli.main(["benchmark", "--recording", "toy.npz", *options.split()]) == 0
    printed = capsys.readouterr().out
    assert "ablation.md" in printed
    assert "without-reasoning_guidance" in printed  # whole, in 80 columns
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    folder = tmp_path / "benchmarks" / "results" / "toy"
    document = json.loads((folder / "ablation.json").read_text("utf-8"))
    assert len(document["rows"]) == len(list((folder / "cells").glob("*.npz"))) // 2 == 11


def test_the_leaderboard_is_printed_whole_in_80_columns(finished, capsys):
    _, board = finished
    Console(width=80).print(leaderboard_table(board))
    printed = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    for row in board.rows:
        assert f"{row.score.mean:.3f}" in printed
        assert f"[{row.gain.low:+.3f}, {row.gain.high:+.3f}]" in printed
        if row.random_under_critic is not None:
            assert f"critic of {row.name}" in printed
            assert f"{row.random_under_critic.mean:.3f}" in printed
    for line in board.lines:
        assert f"{line.mean.mean:.3f}" in printed
    assert "its placebo" in printed
    assert "The user's part cannot be told" in printed


def test_cells_have_files_of_their_own(tmp_path):
    cells = [one_cell(), one_cell(seed=1), one_cell(agent="random")]
    assert len({cell_path(tmp_path, cell) for cell in cells}) == 3
