"""ARCHITECTURE.md names every room, and no file that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
SECTIONS = {"rpp_env": ROOT / "rpp_env", "rpp_agents": ROOT / "agents"}


def named(package):
    """Paths in the first column of the tables of a package's section, relative to its folder."""
    (section,) = re.findall(rf"^### {package}\b.*?(?=^##)", PAGE, flags=re.M | re.S)
    first_cells = re.findall(r"^\| (`.+?) \|", section, flags=re.M)
    return [path for cell in first_cells for path in re.findall(r"`([\w./]+)`", cell)]


@pytest.mark.parametrize("package", SECTIONS)
def test_every_room_is_named(package):
    rooms = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in SECTIONS[package].iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"__init__.py"}
    assert rooms - set(named(package)) == set()


@pytest.mark.parametrize("package", SECTIONS)
def test_what_is_named_is_there_and_is_named_once(package):
    paths = named(package)
    assert [path for path in paths if not (SECTIONS[package] / path).exists()] == []
    assert len(set(paths)) == len(paths)
