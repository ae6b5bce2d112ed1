"""The headroom as a table on the console, with its verdict."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rpp_agents.evaluation.headroom import Headroom
from rpp_agents.evaluation.headroom_rows import headroom_rows


def headroom_table(headroom: Headroom) -> RenderableType:
    """What there is to learn, in 80 columns."""
    table = Table(
        title=f"Headroom: NDCG@10, {headroom.num_prompts} prompts, {headroom.num_instances} "
        f"instances of {headroom.num_users} users",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("")
    table.add_column("", style="dim")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for row in headroom_rows(headroom):
        table.add_row(row.name, row.note, row.value, row.interval)
    return Group(table, "", Text(headroom.verdict, style="bold"))
