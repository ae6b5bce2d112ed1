"""What a user types is taken literally, and so is what is printed."""

import logging

import pytest

from rpp_agents.cli.main import expand_home, main
from rpp_agents.cli.train_command import make_run_folder

QUICK = ["--iterations", "1", "--num-envs", "2", "--horizon", "2", "--no-search-fixed"]


@pytest.mark.parametrize(
    ("argument", "expanded"),
    [
        ("--out=~/x", "--out=/home/me/x"),
        ("~/x", "/home/me/x"),
        ("~", "/home/me"),
        ("transformers:~/my model", "transformers:/home/me/my model"),
        ("--llm=vllm:~/m", "--llm=vllm:/home/me/m"),
        ("./~", "./~"),
        ("a~b", "a~b"),
        ("openai:m@http://host/~me/v1", "openai:m@http://host/~me/v1"),
        ("--out=$HOME/[x] 100%", "--out=$HOME/[x] 100%"),
    ],
)
def test_a_tilde_is_expanded_where_a_path_begins_and_nowhere_else(monkeypatch, argument, expanded):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home(argument) == expanded


@pytest.mark.parametrize("name", ["x", "deep/er", "[red] 100% :smile:", "прогон 走"])
def test_a_run_goes_where_the_user_says_and_is_named_as_typed(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", *QUICK, f"--out=~/{name}"]) == 0
    assert (tmp_path / "home" / name / "config.json").is_file()
    assert not (tmp_path / "~").exists()
    assert f"rpp evaluate {tmp_path / 'home' / name}" in capsys.readouterr().out


def test_two_commands_in_one_second_have_a_folder_each(tmp_path):
    folders = [make_run_folder(tmp_path / "runs") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() for folder in folders)


def test_without_a_home_a_command_says_what_to_do_in_one_line(monkeypatch, caplog):
    monkeypatch.delenv("RPP_ENV_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # no HOME, no account
    with caplog.at_level(logging.ERROR):
        assert main(["cache", "stats"]) == 1
    assert "set RPP_ENV_CACHE to a folder that you can write to" in caplog.text
