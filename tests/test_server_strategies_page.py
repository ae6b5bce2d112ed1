"""The page of servers and strategies shows what the tests of servers saw."""

import json

from servers_page import PAGE, SEEN, STRATEGIES, with_table


def test_the_table_is_the_one_of_what_was_seen():
    page = PAGE.read_text("utf-8")
    assert with_table(page, json.loads(SEEN.read_text("utf-8"))) == page


def test_each_server_was_tried_with_each_strategy():
    for server, entry in json.loads(SEEN.read_text("utf-8")).items():
        assert set(entry["strategies"]) == set(STRATEGIES), server
        assert entry["version"]
        assert not entry["strategies"]["generation"], server  # every server can write
