"""What the README says is run: its Python, its commands, its links."""

import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rpp_agents.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
RPP = Path(sys.executable).with_name("rpp")
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


@pytest.mark.live
def test_its_commands_run_in_order(tmp_path):
    """As they stand, but for options that make them small."""
    make_shop(tmp_path)
    make_model(tmp_path)
    episodes = ["--iterations", "1", "--num-envs", "2", "--horizon", "2"]
    smaller = {
        "train": episodes,
        "evaluate": ["--users", "2"],
        "benchmark": [*episodes, "--seeds", "1", "--measurements", "1"],
        "catalog": ["--users", "4"],
        "diagnose": ["--iterations", "1", "--axes", "memory", "sequence"],
    }
    outputs = {}
    with served() as url:
        for command in rpp_commands():
            _, name, *options = shlex.split(command.replace(SERVER, url))
            outputs[command] = run([str(RPP), name, *options, *smaller.get(name, [])], tmp_path)
    names = [shlex.split(command)[1] for command in outputs]
    assert set(names) == set(COMMANDS) - {"fetch"}

    def output(start):
        return next(text for command, text in outputs.items() if command.startswith(start))

    for start in ("rpp evaluate runs/mine ", "rpp evaluate runs/mine --live"):
        assert "highest critic value" in output(start)
    assert "step 2: reward" in output("rpp show")
    assert (tmp_path / "results/leaderboard.md").exists()
    assert (tmp_path / "diagnosis/fingerprint.svg").exists()
    assert (tmp_path / "my-shop.npz").exists()
    refined = next(text for command, text in outputs.items() if "--refine" in command)
    assert "sentences rejected" in refined
    for run_folder in ("runs/shop", "runs/live"):
        assert (tmp_path / run_folder / "checkpoint/weights.safetensors").exists()
        as_json = run([str(RPP), "evaluate", run_folder, "--users", "2", "--json"], tmp_path)
        assert '"oracle, random tries"' in as_json


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
