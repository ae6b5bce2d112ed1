"""The rooms of the library and the one direction in which they know of each other."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"rpp_env": ROOT / "rpp_env", "rpp_agents": ROOT / "agents"}
FILES = [file for folder in PACKAGES.values() for file in sorted(folder.rglob("*.py"))]
MAX_LINES = 400
MAX_FILES = 15  # of a folder, __init__.py included

# A room is a folder or a file directly in its package; it may import itself and these rooms.
# A new room is entered below all that import it.
BOTTOM = {"types", "errors", "files", "locks", "option_checks", "paths", "progress"}
ENV_ROOMS = {
    "errors": set(),
    "types": {"errors"},
    "files": set(),
    "locks": set(),
    "progress": set(),
    "option_checks": {"errors"},
    "paths": {"errors"},
    "assets": {"errors", "files", "paths"},
    "store": BOTTOM | {"assets"},  # knows nothing of rankings
    "data": BOTTOM,
    "llm": BOTTOM | {"assets", "store"},  # knows nothing of recommendation
    "prompts": BOTTOM | {"llm", "store"},  # an LLM may polish sentences
    "recommenders": BOTTOM | {"prompts", "llm", "store"},  # knows nothing of targets and rewards
    "rewards": BOTTOM,
    "observations": BOTTOM | {"assets"},  # knows nothing of prompts, LLMs and rewards
    "mdp": BOTTOM | {"prompts", "recommenders", "rewards", "observations"},
    "make": BOTTOM
    | {"assets", "store", "data", "prompts", "llm", "recommenders", "observations", "mdp"},
    "recordings": BOTTOM
    | {"store", "data", "prompts", "llm", "recommenders", "observations", "mdp", "make"},
    "planted": BOTTOM | {"prompts", "rewards", "observations", "mdp"},
    "toy": BOTTOM | {"prompts", "recommenders", "observations", "mdp"},
    "envs": BOTTOM | {"rewards", "observations", "mdp", "make", "recordings", "planted"},
    "wrappers": BOTTOM | {"rewards", "observations", "mdp", "envs"},
    "sb3": BOTTOM | {"envs", "wrappers"},
    "rllib": BOTTOM | {"envs", "wrappers"},
    "benchmarl": BOTTOM | {"envs", "wrappers"},
    "agilerl": BOTTOM | {"mdp", "envs"},
}
AGENT_ROOMS = {
    "base": set(),
    "learning": {"base"},
    "rollouts": {"base"},
    "algorithms": {"base", "learning"},
    "registry": {"base", "learning", "algorithms"},
    "training": {"base", "learning", "algorithms", "rollouts", "registry"},
    "evaluation": {"base", "algorithms", "rollouts", "registry", "training"},
    "benchmark": {"base", "rollouts", "registry", "training", "evaluation"},
    "diagnosis": {"base", "rollouts", "registry", "training", "evaluation"},
    "protocol": {"evaluation"},
    "catalog": {"evaluation"},
    "cli": {"base", "registry", "training", "evaluation", "benchmark", "diagnosis", "protocol"}
    | {"catalog"},
    # Documented paths of names that live in a room.
    "accounting": {"training"},
    "evaluate": {"rollouts"},
    "saving": {"learning"},
    "stack": {"rollouts"},
    "train": {"training"},
}
MAY_IMPORT = {"rpp_env": ENV_ROOMS, "rpp_agents": AGENT_ROOMS}
CHAIN = [
    *("data", "llm", "prompts", "recommenders", "rewards", "observations", "mdp", "recordings"),
    *("envs", "wrappers"),
]
# What comes with an extra; the core needs numpy, gymnasium, pettingzoo and pyyaml alone.
EXTRAS = {
    *("torch", "transformers", "accelerate", "gguf", "safetensors", "torch_geometric", "polars"),
    *("filelock", "loky", "tqdm", "tyro", "rich", "tensorboard", "rpp_agents"),
    *("openai", "tenacity", "rapidfuzz", "vllm"),
}


@functools.cache
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


@functools.cache
def rooms(package):
    """The rooms of a package, each with the rooms of the same package that it imports."""
    found = {}
    for file in sorted(PACKAGES[package].rglob("*.py")):
        room = file.relative_to(PACKAGES[package]).with_suffix("").parts[0]
        inner = {name.split(".")[1] for name in imported(file) if name.startswith(f"{package}.")}
        found.setdefault(room, set()).update(inner - {room})
    del found["__init__"]  # the public names are on top of everything
    return found


@pytest.mark.parametrize(
    "file", sorted(PACKAGES["rpp_env"].rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT))
)
def test_the_environment_never_imports_the_agents(file):
    assert not {name for name in imported(file) if name.split(".")[0] in ("rpp_agents", "agents")}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_room_has_its_place(package):
    assert rooms(package).keys() == MAY_IMPORT[package].keys()


@pytest.mark.parametrize(
    ("package", "room"), [(package, room) for package, all_ in MAY_IMPORT.items() for room in all_]
)
def test_a_room_imports_only_what_it_may(package, room):
    assert rooms(package).get(room, set()) <= MAY_IMPORT[package][room]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_have_one_direction(package):
    order = list(
        graphlib.TopologicalSorter(MAY_IMPORT[package]).static_order()
    )  # raises on a cycle
    assert set(order) == MAY_IMPORT[package].keys()


def test_data_goes_in_one_direction():
    for i, room in enumerate(CHAIN):
        assert not ENV_ROOMS[room] & {*CHAIN[i + 1 :]}


@pytest.mark.parametrize(
    "folder",
    sorted({file.parent for file in FILES}),
    ids=lambda folder: str(folder.relative_to(ROOT)),
)
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    assert len(list(folder.glob("*.py"))) <= MAX_FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_too_long(file):
    assert len(file.read_text("utf-8").splitlines()) <= MAX_LINES


def test_no_file_is_named_for_nothing():
    assert len(FILES) > 20
    assert not {file.stem for file in FILES} & {"utils", "util", "helpers", "common", "misc"}


def test_importing_the_environment_loads_no_extra(tmp_path):
    script = (
        "import sys; from rpp_env import *; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    loaded = set(done.stdout.split())
    assert {"rpp_env", "numpy", "gymnasium", "pettingzoo"} <= loaded
    assert not loaded & EXTRAS


def test_the_package_imports_its_rooms_when_they_are_used():
    script = (
        "import sys, rpp_env; assert 'rpp_env.mdp' not in sys.modules; "
        "assert set(dir(rpp_env)) >= set(rpp_env.__all__); "
        "assert rpp_env.PromptMDP is rpp_env.mdp.prompt_mdp.PromptMDP; "
        "assert not hasattr(rpp_env, 'nonsense')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
