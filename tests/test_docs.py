"""The pages of docs/: their Python runs and prints what they say, and what they list is there.

A fenced block with a title is a file that the page's Python finds; a block `text` right behind one
of Python is what it prints. A comment before a block, `<!-- live: reason -->` or
`<!-- not run: reason -->`, says that it needs the embedded LLM, or that it is left out.
"""

import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import rpp_env
from rpp_env.envs.factories import recorded_env, recorded_vector_env
from rpp_env.recordings.live import live_mdp

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
END_OF_BLOCK = "--- end of block ---"

# Pages of libraries that have an environment of their own, and what is imported there.
ELSEWHERE = {
    **{name: name for name in ("torchrl", "benchmarl", "tianshou", "skrl", "agilerl")},
    "rllib": "ray",
    "sb3": "stable_baselines3",
}


def name_of(page):
    return page.relative_to(DOCS).as_posix()


def of_page(name):
    return (DOCS / name).read_text("utf-8")


@dataclass(frozen=True, kw_only=True)
class Block:
    mark: str  # "live", "not run" or ""
    language: str
    title: str
    text: str
    output: str | None  # what the page says it prints

    @property
    def runs(self):
        return (
            self.language == "python"
            and not self.title
            and self.mark != "not run"
            and not self.text.startswith("--8<--")
        )


FENCE = re.compile(
    r"^(?:<!-- (?P<mark>live|not run): [^>]+ -->\n)?"
    r'```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$'
    r"(?:\n\n```text\n(?P<output>.*?)^```$)?",
    flags=re.M | re.S,
)


def blocks_of(page):
    return [
        Block(
            mark=found["mark"] or "",
            language=found["language"],
            title=found["title"] or "",
            text=found["text"],
            output=found["output"],
        )
        for found in FENCE.finditer(page.read_text("utf-8"))
    ]


def run_page(page, folder, *, live):
    """What each block printed, all being run in one process one after the other."""
    blocks = blocks_of(page)
    for block in blocks:
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text, "utf-8")
    running = [block for block in blocks if block.runs and (live or block.mark != "live")]
    script = folder / f"{page.stem}_page.py"
    script.write_text("".join(f"{each.text}\nprint({END_OF_BLOCK!r})\n" for each in running))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.split(f"{END_OF_BLOCK}\n")[:-1]
    return list(zip(running, printed, strict=True))


def runs():
    """Each page with Python, without its live blocks, and then with them where it has some."""
    for page in PAGES:
        running = [block for block in blocks_of(page) if block.runs]
        live = [block for block in running if block.mark == "live"]
        if len(running) > len(live):
            yield pytest.param(page, False, id=name_of(page))
        if live:
            yield pytest.param(page, True, marks=pytest.mark.live, id=f"{name_of(page)}, live")


@pytest.mark.parametrize(("page", "live"), list(runs()))
def test_its_python_runs_and_prints_what_it_says(page, live, tmp_path):
    needed = ELSEWHERE.get(page.stem) if page.parent.name == "libraries" else None
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    for block, printed in run_page(page, tmp_path, live=live):
        if block.output is not None:
            assert printed.rstrip() == block.output.rstrip(), block.text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_all_its_fences_are_understood(page):
    text = page.read_text("utf-8")
    # Nothing but the fences that FENCE knows: the rest of the page has none, and no comment.
    rest = FENCE.sub("", text)
    assert "```" not in rest
    assert "<!--" not in rest


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_it_includes_is_there(page):
    included = re.findall(r'--8<-- "([^":]+)', page.read_text("utf-8"))
    assert [path for path in included if not (ROOT / path).is_file()] == []
    if page.parent.name == "libraries" and page.stem != "index":
        assert [path for path in included if path.startswith(f"examples/{page.stem}_")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_links_stay_within_the_site(page):
    text = page.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    targets = [(page.parent / link).resolve() for link in links]
    assert [t for t in targets if not (t.is_file() and t.is_relative_to(DOCS))] == []


class _Configuration(yaml.SafeLoader):
    """Reads MkDocs' own tags as None."""


_Configuration.add_multi_constructor("!", lambda loader, suffix, node: None)


def pages_of(entry):
    if isinstance(entry, str):
        return [entry]
    children = entry if isinstance(entry, list) else entry.values()
    return [page for child in children for page in pages_of(child)]


def test_every_page_is_in_the_navigation():
    config = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader=_Configuration)
    assert sorted(pages_of(config["nav"])) == sorted(map(name_of, PAGES))


def tables(text):
    """Each table: its header, and its rows as tuples of cells."""
    found = []
    for lines in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        rows = [
            tuple(cell.strip() for cell in line.strip("|\n").split(" | "))
            for line in lines.replace("|\n", "\n").splitlines()
        ]
        found.append((rows[0], rows[2:]))
    return found


def table(text, *header):
    """The rows of the tables that have this header."""
    rows = [row for head, body in tables(text) if head == header for row in body]
    assert rows, header
    return rows


def test_the_layout_of_observations():
    encoder = rpp_env.recorded_mdp().encoder
    layouts = {"state": encoder.state_layout, **encoder.layouts}

    def cell(layout, part):
        name = part if part in layout else "choice"
        return f"{layout.slice(name).start}:{layout.slice(name).stop}"

    expected = [
        (f"`{part}`", *(cell(layout, part) for layout in layouts.values()))
        for part in encoder.state_layout.names
    ]
    expected.append(("length", *(str(layout.size) for layout in layouts.values())))
    assert table(of_page("environment.md"), "part", *layouts) == expected


def shown(text):
    escaped = text.replace("\n", "\\n")
    return f"`{escaped}`" if escaped else "nothing"


def test_the_meaning_of_actions():
    page, catalog = of_page("environment.md"), rpp_env.load_recording().catalog
    plain = [*enumerate(catalog.role_playing), *enumerate(catalog.reasoning_guidance)]
    assert table(page, "action", "sentence") == [(str(i), shown(text)) for i, text in plain]
    assert table(page, "action", "records", "sentence") == [
        (str(i), str(entry.records), shown(entry.text))
        for i, entry in enumerate(catalog.history_records)
    ]
    assert table(page, "action", "instruction", "the answer begins with", "chat template") == [
        (
            str(i),
            shown(entry.instruction),
            shown(entry.answer_prefix),
            "yes" if entry.chat_template else "no",
        )
        for i, entry in enumerate(catalog.output_format)
    ]


def test_the_arguments_and_their_defaults():
    page = of_page("environment.md")
    given = [
        (name.strip("`"), default.strip("`"))
        for name, default, _ in table(page, "argument", "default", "meaning")
    ]
    views = inspect.signature(recorded_env).parameters
    batch = inspect.signature(recorded_vector_env).parameters
    recorded = inspect.signature(rpp_env.recorded_mdp).parameters
    live = inspect.signature(live_mdp).parameters
    expected = [
        *((name, repr(views[name].default)) for name in ("split", "render_mode", "mdp")),
        *((name, repr(each.default)) for name, each in recorded.items()),
        ("num_envs", f"{batch['num_envs'].default} by make_vec"),
        ("autoreset_mode", repr(batch["autoreset_mode"].default.value)),
        *((name, repr(each.default)) for name, each in live.items()),
    ]
    assert [(name, default.replace("`", "")) for name, default in given] == expected


def test_the_splits():
    instances = rpp_env.load_recording().instances
    expected = []
    for split in ("train", "validation", "test"):
        ids = instances.in_split(split)
        expected.append((f"`{split}`", str(len(ids)), str(len(set(instances.users[ids])))))
    assert table(of_page("environment.md"), "split", "instances", "users") == expected


def documented_names():
    """Names that docs/api makes entries of, in the order of its pages."""
    pages = sorted((DOCS / "api").glob("*.md"))
    return [
        name
        for page in pages
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), flags=re.M)
    ]


def lacks_its_library(name):
    needed = ELSEWHERE.get(name.split(".")[1])
    return needed is not None and importlib.util.find_spec(needed) is None


def named_object(name):
    module, _, last = name.rpartition(".")
    parent = importlib.import_module(module)
    return getattr(parent, last) if hasattr(parent, last) else importlib.import_module(name)


def public_packages():
    for package in (rpp_env, pytest.importorskip("rpp_agents", exc_type=ImportError)):
        yield package
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.ispkg:
                yield importlib.import_module(module.name)


def test_the_api_has_every_public_name():
    documented = {
        id(named_object(name)) for name in documented_names() if not lacks_its_library(name)
    }
    missing = [
        f"{package.__name__}.{name}"
        for package in public_packages()
        for name in getattr(package, "__all__", ())
        if id(getattr(package, name)) not in documented
    ]
    assert missing == []


def test_the_api_names_what_there_is_and_once():
    names = documented_names()
    assert len(names) > 80
    assert len(set(names)) == len(names)
    for name in names:
        if lacks_its_library(name):
            module, _, last = name.rpartition(".")
            source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
            assert re.search(rf"^(def|class) {last}\b", source, flags=re.M), name
        else:
            named_object(name)  # raises where there is none


def test_every_name_of_the_api_has_a_docstring(tmp_path):
    griffe = pytest.importorskip("griffe")
    (tmp_path / "rpp_agents").symlink_to(ROOT / "agents")
    loader = griffe.GriffeLoader(search_paths=[ROOT, tmp_path])
    for package in ("rpp_env", "rpp_agents"):
        loader.load(package)
    loader.resolve_aliases()
    entries = {name: loader.modules_collection[name] for name in documented_names()}
    assert [name for name, entry in entries.items() if not entry.has_docstring] == []


def test_the_versions_of_the_libraries():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    rows = table(
        of_page("libraries/index.md"), "library", "tested", "view", "extra", "example", "remark"
    )
    pages = set()
    for library, tested, _, extra, example, _ in rows:
        pages.update(re.findall(r"\((\w+\.md)\)", library))
        for name, version in re.findall(r"([\w-]+) (\d+\.\d+\.\d+)", tested):
            assert pins.get(name, version) == version, name  # some differ by environment
        for path in re.findall(r"`(examples/\w+\.py)`", example):
            assert (ROOT / path).is_file(), path
        for name in re.findall(r"`(\w+)`", extra):
            assert re.search(rf"^{name} =", (ROOT / "setup.cfg").read_text("utf-8"), flags=re.M)
    assert pages == {page.name for page in (DOCS / "libraries").glob("*.md")} - {"index.md"}
