import inspect
import re
import subprocess
import sys

import pytest

from rpp_agents.cli import main as cli
from rpp_agents.registry import AGENTS
from rpp_env.assets import ASSETS
from rpp_env.store import AnswerStore

# Modules that take seconds to import, and that a command needs only where it learns or ranks.
SLOW = {"torch", "tensorboard", "transformers", "matplotlib", "safetensors"}
MODULES_AFTER = """
import sys
from rpp_agents.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
sys.stderr.write(" ".join({name.split(".")[0] for name in sys.modules}))
"""


def modules_after(*arguments):
    """The names of the packages that a process has imported when it has run ``rpp``."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES_AFTER, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["cache", "--help"], ["cache", "stats"], ["fetch"]], ids=" ".join
)
def test_a_command_that_does_not_learn_imports_nothing_slow(arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path))
    if arguments == ["cache", "stats"]:
        with AnswerStore() as store:
            store.put_many({bytes(32): b"answer"}, source="a test")
    loaded = modules_after(*arguments)
    assert "tyro" in loaded
    assert not loaded & SLOW


def test_the_list_of_commands_needs_neither_the_environment_nor_numpy():
    assert not modules_after("--help") & {"rpp_env", "numpy", "gymnasium"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_list_of_commands_says_what_a_command_says_of_itself(name):
    first_line = inspect.getdoc(cli.load_command(name)).splitlines()[0]
    assert first_line == cli.COMMANDS[name]


def test_every_agent_of_the_registry_can_be_trained_by_the_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    listed = set(re.findall(r"agent:([a-z0-9]+)", capsys.readouterr().out))
    assert listed == set(AGENTS)


def test_public_names_of_the_package_are_imported_when_they_are_used():
    import rpp_agents

    assert set(rpp_agents.__all__) <= set(dir(rpp_agents))
    for name in rpp_agents.__all__:
        assert getattr(rpp_agents, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'make_agnet'"):
        rpp_agents.make_agnet  # noqa: B018 - the access is what is tested


def test_each_command_has_help(capsys):
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            cli.main([name, "--help"])
        assert stopped.value.code == 0
        assert f"usage: rpp {name}" in capsys.readouterr().out


def test_fetch_lists_what_there_is(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("RPP_ENV_CACHE", str(tmp_path))
    assert cli.main(["fetch"]) == 0
    listed = capsys.readouterr().out
    assert str(tmp_path) in listed
    assert listed.count("missing") == len(ASSETS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "ml-1000k"], "Did you mean 'ml-100k'"),
        (["evaluate", "nowhere"], "nowhere holds no run"),
        (["show", "nowhere"], "nowhere holds no run"),
        (["train", "--resume", "nowhere"], "nowhere holds no run"),
        (["train", "--out", "run", "--live", "--data", "no-such-folder"], "no-such-folder"),
        (["train", "--out", "run", "--live", "--catalog", "movie"], "Did you mean 'movies'"),
        (["train", "--out", "run", "--live", "--llm", "vlm:x"], "no backend 'vlm'"),
        (["train", "--out", "run", "--live", "--llm", "smollm2"], "backend:model"),
        (["train", "--out", "run", "--recording", "ml-10k"], "ml-10k"),
        (["record", "--out", "file"], "NAME.npz"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments, message, caplog, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    assert message in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_bad_number_is_named(caplog, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(["train", "--iterations", "0"])
    except SystemExit as stopped:
        status = stopped.code
    assert status
    assert "iterations=0" in caplog.text + "".join(capsys.readouterr())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--llm", "transformers:x"], "llm='transformers:x' is for a live LLM; add live"),
        (["--live", "--recording", "x"], "recording='x' is for training on a recording"),
    ],
)
def test_options_of_the_other_kind_of_training_are_named(arguments, message, capsys, caplog):
    try:
        status = cli.main(["train", *arguments])
    except SystemExit as stopped:
        status = stopped.code
    assert status
    assert message in " ".join((caplog.text + "".join(capsys.readouterr())).split())


def test_resume_takes_no_other_option(caplog):
    assert cli.main(["train", "--resume", "runs/x", "--iterations", "20"]) == 1
    assert "takes no other option" in caplog.text


def test_agents_are_chosen_by_name(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "agent:a2c", "--help"])
    assert stopped.value.code == 0
    assert "--agent.gamma" in capsys.readouterr().out
