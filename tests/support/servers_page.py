"""The page "Which strategy works with which server", and the file that tests write for it.

`docs/server-strategies.json` has one entry per server, with its version and, per strategy, what the
tests saw: nothing if it works, else what the error said. The page's table is made of it.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEN = ROOT / "docs" / "server-strategies.json"
PAGE = ROOT / "docs" / "server-strategies.md"
STRATEGIES = ("likelihood", "label", "generation", "generation --constrained")
# The part of the page between these headings is written by the tests.
BEGIN, END = "## What the tests saw", "## When the error comes"


def record(server, *, strategy, error="", **about):
    """Writes what a test saw into the file, and the table into the page.

    Args:
        server: Name of the server; a row of the table.
        strategy: Of `STRATEGIES`.
        error: What the error said; nothing if the strategy works.
        about: Other fields of the entry: `version`, and `start`, the command that starts it.
    """
    seen = json.loads(SEEN.read_text("utf-8"))
    entry = seen.setdefault(server, {"strategies": {}})
    entry.update(about)
    entry["strategies"][strategy] = error
    SEEN.write_text(json.dumps(seen, indent=2, sort_keys=True) + "\n", "utf-8")
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), seen), "utf-8")


def without_places(text, places):
    """A message without what differs from run to run: addresses and files, each by its name."""
    for place, name in places.items():
        text = text.replace(place, name)
    text = re.sub(r' File "/[^"]*", line \d+, in [^.]*', "", text)  # a server's own traceback
    return re.sub(r"http://127\.0\.0\.1:\d+", "http://HOST:PORT", text)


def with_table(page, seen):
    """The text of the page with the table of what was seen."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(seen)}\n{END}{after}"


def table(seen):
    """The table, and below it what each error said."""
    lines = ["| server | version | " + " | ".join(f"`{name}`" for name in STRATEGIES) + " |"]
    lines.append("|---" * (2 + len(STRATEGIES)) + "|")
    notes = []
    for server, entry in sorted(seen.items()):
        cells = []
        for strategy in STRATEGIES:
            error = entry["strategies"].get(strategy)
            if error:
                notes.append(f"{len(notes) + 1}. {server}, `{strategy}`: {error}")
            cells.append("" if error is None else f"no ({len(notes)})" if error else "yes")
        lines.append(f"| {server} | {entry['version']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "What the errors say:", "", *notes, ""])
