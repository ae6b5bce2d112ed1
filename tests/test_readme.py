"""What the README says is run: its Python, its commands, its links."""

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rpp_agents.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
RPP = Path(sys.executable).with_name("rpp")
SUBMISSIONS = ROOT / "benchmarks" / "submissions"
SERVER = "http://127.0.0.1:8000/v1"  # as the README writes it


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def rpp_commands():
    lines = [line.split("  #")[0] for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("rpp ")]


def run(arguments, cwd):
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.live
@pytest.mark.parametrize("source", blocks("python"))
def test_its_python_runs(source, tmp_path):
    script = tmp_path / "readme.py"
    script.write_text(source)
    assert run([sys.executable, str(script)], tmp_path).strip()


SHOP_CATALOG = """
name: my-shop
role_playing: [""]
history_records:
  mode: set
  text: "Bought: {history}."
  records: [1, 2]
reasoning_guidance: ["", "Think of what goes together."]
output_format:
  sentences:
    - {instruction: "", answer_prefix: "Next in the basket:"}
"""


def make_shop(folder):
    """Fifteen users and thirty goods, a catalog, and a model of the user's own."""
    shop = folder / "my-shop"
    shop.mkdir()
    bought = [f"u{u}\tg{(u * 7 + k * 3) % 30}\t{k}" for u in range(15) for k in range(6)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (shop / "my-shop.inter").write_text("\n".join([header, *bought]) + "\n")
    goods = [f"g{i}\tGood number {i}" for i in range(30)]
    (shop / "my-shop.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *goods]) + "\n")
    (folder / "my-shop.yaml").write_text(SHOP_CATALOG)


def make_model(folder):
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from rpp_env.llm import load_llm

    known = load_llm("transformers:smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(known._path())
    tokenizer.save_pretrained(folder / "my-model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "my-model")


@contextlib.contextmanager
def served():
    """The URL of a server that answers as one with an LLM behind it does."""
    script = Path(__file__).parent / "support" / "openai_server.py"
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as one:
        try:
            yield one.stdout.readline().strip()
        finally:
            one.kill()


# What makes the commands small enough for a test.
EPISODES = ["--iterations", "1", "--num-envs", "2", "--horizon", "2"]
SMALLER = {
    "train": EPISODES,
    "evaluate": ["--users", "2"],
    "benchmark": [*EPISODES, "--seeds", "1", "--measurements", "1"],
    "catalog": ["--users", "4"],
    "diagnose": ["--iterations", "1", "--axes", "memory", "sequence"],
}


def run_in_order(commands, folder):
    """Runs the commands as they stand, but smaller, and returns what each printed."""
    outputs = {}
    for command in commands:
        _, name, *options = shlex.split(command)
        outputs[command] = run([str(RPP), name, *options, *SMALLER.get(name, [])], folder)
    return outputs


def needs_shop(command):
    return "my-shop" in command or "runs/shop" in command


def needs_server(command):
    return SERVER in command


def needs_run(command):
    return "runs/mine" in command


def is_independent(command):
    return not (needs_shop(command) or needs_server(command) or needs_run(command))


def check_trained(folder):
    assert (folder / "checkpoint/weights.safetensors").exists()
    as_json = run([str(RPP), "evaluate", str(folder), "--users", "2", "--json"], folder.parent)
    assert '"oracle, random tries"' in as_json


def test_its_commands_are_all_but_fetch():
    names = {shlex.split(command)[1] for command in rpp_commands()}
    assert names == set(COMMANDS) - {"fetch"}


@pytest.mark.live
def test_its_commands_on_one_run_work_in_order(tmp_path):
    outputs = run_in_order(filter(needs_run, rpp_commands()), tmp_path)
    evaluations = [text for line, text in outputs.items() if line.startswith("rpp evaluate")]
    assert len(evaluations) == 2
    assert all("highest critic value" in text for text in evaluations)
    [shown] = [text for line, text in outputs.items() if line.startswith("rpp show")]
    assert "step 2: reward" in shown


@pytest.mark.live
def test_its_commands_on_data_of_ones_own_work_in_order(tmp_path):
    make_shop(tmp_path)
    make_model(tmp_path)
    run_in_order(filter(needs_shop, rpp_commands()), tmp_path)
    assert (tmp_path / "my-shop.npz").exists()
    for name in ("shop", "live"):
        check_trained(tmp_path / "runs" / name)


@pytest.mark.live
def test_its_commands_on_a_server_work(tmp_path):
    with served() as url:
        commands = [line.replace(SERVER, url) for line in filter(needs_server, rpp_commands())]
        outputs = run_in_order(commands, tmp_path)
    [refined] = [text for line, text in outputs.items() if "--refine" in line]
    assert "sentences rejected" in refined


@pytest.mark.live
@pytest.mark.parametrize(
    "command", [*filter(is_independent, rpp_commands())], ids=lambda line: line.split()[1]
)
def test_each_other_command_works(command, tmp_path):
    for submission in SUBMISSIONS.glob("*.json"):
        shutil.copy(submission, tmp_path)
    run_in_order([command], tmp_path)
    results = {
        "benchmark": "results/leaderboard.md",
        "diagnose": "diagnosis/fingerprint.svg",
        "cache": ".",
        "submit": ".",
    }
    assert (tmp_path / results[command.split()[1]]).exists()


def test_its_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^    make (\w+)", README, flags=re.M))
    assert targets == {"train", "test"}
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in targets)


def test_its_extras_exist():
    setup = (ROOT / "setup.cfg").read_text("utf-8")
    extras = set(",".join(re.findall(r"rpp-env\[([\w,]+)\]", README)).split(","))
    assert extras == {"agents", "llm", "openai", "sb3"}
    assert all(re.search(rf"^{name} =", setup, flags=re.M) for name in extras)


@pytest.mark.parametrize(
    "document",
    [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: path.name,
)
def test_links_and_files_named_exist(document):
    text = document.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    files = re.findall(r"`((?:rpp_env|agents|tests|benchmarks)/[\w/.]+\.\w+)`", text)
    assert [link for link in links if not (document.parent / link).exists()] == []
    assert [name for name in files if not (ROOT / name).exists()] == []
