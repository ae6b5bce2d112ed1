"""The rooms of the library and the one direction in which they know of each other."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"rpp_env": ROOT / "rpp_env", "rpp_agents": ROOT / "agents"}
FILES = [file for folder in PACKAGES.values() for file in sorted(folder.rglob("*.py"))]
MAX_LINES = 400

BOTTOM = {"types", "errors", "locks"}
# data -> prompts -> recommenders -> rewards -> observations -> mdp -> views; a room may import
# from itself and from these. A new room is entered here, below all that know of it.
MAY_IMPORT = {
    "types": set(),
    "errors": set(),
    "locks": set(),
    "assets": {"errors"},
    "sampling": {"types"},
    "store": BOTTOM | {"assets"},  # knows nothing of rankings
    "data": BOTTOM,
    "llm": BOTTOM | {"assets"},  # knows nothing of recommendation
    "prompts": BOTTOM | {"llm", "store"},  # an LLM may polish sentences
    "recommenders": BOTTOM | {"prompts", "llm", "store"},  # knows nothing of targets and rewards
    "rewards": BOTTOM,
    "observations": BOTTOM | {"assets"},  # knows nothing of prompts, LLMs and rewards
    "mdp": BOTTOM | {"prompts", "recommenders", "rewards", "observations"},
    "spaces": BOTTOM | {"rewards", "observations", "mdp"},
    "episodes": BOTTOM | {"sampling", "spaces", "mdp"},
    "text_view": BOTTOM | {"rewards", "mdp", "episodes"},
    "vector_parallel_env": BOTTOM | {"episodes", "spaces", "text_view", "mdp"},
    "parallel_env": BOTTOM | {"episodes", "spaces", "text_view", "mdp", "vector_parallel_env"},
    "single_env": BOTTOM | {"episodes", "spaces", "text_view", "mdp"},
    "tuple_env": BOTTOM | {"mdp", "parallel_env"},
    "vector_env": BOTTOM | {"episodes", "spaces", "text_view", "mdp"},
    "registration": set(),
    "entry_points": BOTTOM
    | {"mdp", "make", "recordings", "parallel_env", "vector_parallel_env"}
    | {"single_env", "tuple_env", "vector_env"},
    "wrappers": BOTTOM
    | {"rewards", "observations", "episodes", "text_view"}
    | {"parallel_env", "single_env", "vector_env"},
    "sb3": BOTTOM | {"text_view", "entry_points", "vector_env", "wrappers"},
    "rllib": BOTTOM | {"entry_points", "parallel_env"},
    "benchmarl": BOTTOM | {"entry_points", "wrappers"},
    "agilerl": BOTTOM | {"mdp", "entry_points", "vector_parallel_env"},
    "toy": BOTTOM | {"prompts", "recommenders", "observations", "mdp"},
    "make": BOTTOM
    | {"assets", "store", "data", "prompts", "llm", "recommenders", "observations", "mdp"},
    "recordings": BOTTOM
    | {"store", "data", "prompts", "llm", "recommenders", "observations", "mdp", "make"},
}
VIEWS = {
    *("parallel_env", "vector_parallel_env", "single_env", "tuple_env", "vector_env"),
    *("entry_points", "wrappers", "sb3", "rllib", "benchmarl", "agilerl"),
}
# What comes with an extra; the core needs numpy, gymnasium, pettingzoo and pyyaml alone.
EXTRAS = {
    *("torch", "transformers", "accelerate", "gguf", "safetensors", "torch_geometric", "polars"),
    *("filelock", "loky", "tqdm", "tyro", "rich", "tensorboard", "rpp_agents"),
    *("openai", "tenacity", "rapidfuzz", "vllm"),
}


def imported(file):
    """Every module that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            # `from rpp_env import make` may name a module
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(file):
    """The first part of a module's place in rpp_env: a folder or a file."""
    parts = file.relative_to(PACKAGES["rpp_env"]).with_suffix("").parts
    return parts[0]


def rooms():
    """The rooms there are, each with the rooms that it imports."""
    found = {}
    for file in sorted(PACKAGES["rpp_env"].rglob("*.py")):
        inner = {name.split(".")[1] for name in imported(file) if name.startswith("rpp_env.")}
        found.setdefault(room_of(file), set()).update(inner - {room_of(file)})
    del found["__init__"]  # the public names are on top of everything
    return found


@pytest.mark.parametrize(
    "file", sorted(PACKAGES["rpp_env"].rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT))
)
def test_the_environment_never_imports_the_agents(file):
    assert not {name for name in imported(file) if name.split(".")[0] in ("rpp_agents", "agents")}


def test_every_room_has_its_place():
    assert rooms().keys() == MAY_IMPORT.keys()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room):
    assert rooms().get(room, set()) <= MAY_IMPORT[room]


def test_data_goes_in_one_direction():
    order = list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())  # raises on a cycle
    assert set(order) == MAY_IMPORT.keys()
    chain = ["data", "prompts", "recommenders", "rewards", "observations", "mdp"]
    for i, room in enumerate(chain):
        assert not MAY_IMPORT[room] & {*chain[i + 1 :], *VIEWS}


def test_views_are_imported_by_nothing_below_them():
    for room, known in rooms().items():
        assert room in VIEWS or not known & VIEWS


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_too_long(file):
    assert len(file.read_text("utf-8").splitlines()) <= MAX_LINES


def test_no_file_is_named_for_nothing():
    assert len(FILES) > 20
    assert not {file.stem for file in FILES} & {"utils", "util", "helpers", "common", "misc"}


def test_importing_the_environment_loads_no_extra(tmp_path):
    script = "import sys, rpp_env; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    loaded = set(done.stdout.split())
    assert {"rpp_env", "numpy", "gymnasium", "pettingzoo"} <= loaded
    assert not loaded & EXTRAS
