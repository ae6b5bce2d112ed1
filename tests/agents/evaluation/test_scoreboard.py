"""The scoreboard of a run."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from toy_runs import remembering_toy

from rpp_agents.cli.tables import save_svg, scoreboard_table
from rpp_agents.evaluation.scoreboard import evaluate_run


def test_the_scoreboard_has_every_row_on_the_same_users(finished):
    board = evaluate_run(finished, users=8, oracle=True, mdp=remembering_toy())
    rows = {row.name: row for row in board.rows}
    assert board.num_users == 8
    assert list(rows) == [
        "chance",
        "random policy, last step",
        "best fixed prompt",
        "policy, last step",
        "policy, highest critic value",
        "random policy, critic chooses",
        "oracle, the policy's tries",
        "oracle, random tries",
        "oracle, every prompt",
        "placebo oracle, every prompt",
        "LightGCN alone",
    ]
    assert rows["chance"].ndcg[10].mean == pytest.approx(0.454, abs=5e-4)
    assert rows["oracle, every prompt"].ndcg[10].mean == 1.0
    assert rows["best fixed prompt"].gain is None
    for row in board.rows:
        at_1, at_5, at_10 = (row.ndcg[k].mean for k in (1, 5, 10))
        assert at_1 <= at_5 <= at_10
        if row.gain is not None:
            fixed = rows["best fixed prompt"].ndcg[10].mean
            assert row.gain.mean == pytest.approx(at_10 - fixed)


def test_evaluating_again_gives_the_same_numbers_and_sends_nothing(finished):
    boards = [evaluate_run(finished, users=6, mdp=remembering_toy()) for _ in range(2)]
    first, again = ([(row.name, row.ndcg, row.gain) for row in board.rows] for board in boards)
    assert first == again
    assert sum(row.llm_calls or 0 for row in boards[0].rows) > 6
    assert all(not row.llm_calls for row in boards[1].rows)
    assert boards[0].training_llm_calls == boards[1].training_llm_calls
    other = evaluate_run(finished, users=6, seed=1, mdp=remembering_toy())
    assert [(row.name, row.ndcg, row.gain) for row in other.rows] != first


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"users": 13}, "0 takes them all"),
        ({"users": -1}, "users=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"split": "tests"}, "Did you mean 'test'"),
    ],
)
def test_a_bad_argument_of_the_evaluation_is_named(finished, option, message):
    with pytest.raises(ValueError, match=message):
        evaluate_run(finished, **option, mdp=remembering_toy())


def test_the_table_as_a_picture_needs_nothing_but_itself(finished, tmp_path):
    board = evaluate_run(finished, mdp=remembering_toy())
    save_svg(scoreboard_table(board), tmp_path / "table.svg")
    picture = (tmp_path / "table.svg").read_text("utf-8")
    shown = picture.replace("&#160;", " ").replace("&#x27;", "'")
    assert all(part in shown for row in board.rows for part in row.name.split(", "))
    assert "\N{HORIZONTAL ELLIPSIS}" not in picture  # nothing is cut off
    assert "url(http" not in picture
    assert 'url("http' not in picture


def test_the_table_fits_in_80_columns_with_long_numbers(finished):
    board = evaluate_run(finished, mdp=remembering_toy())
    rows = [replace(row, llm_calls=row.llm_calls and 1_234_567) for row in board.rows]
    console = Console(width=80, file=io.StringIO())
    console.print(scoreboard_table(replace(board, rows=tuple(rows))))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "1,234,567" in console.file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in console.file.getvalue()
    policy = next(row for row in rows if row.name == "policy, last step")
    interval = f"[{policy.ndcg[10].low:.3f}, {policy.ndcg[10].high:.3f}]"
    assert any(line.startswith("last step") and interval in line for line in lines)


def test_by_default_small_splits_are_evaluated_whole(finished):
    assert evaluate_run(finished, mdp=remembering_toy()).num_users == 12
