"""What tests of the store of answers put into it, and a look into its file."""

import hashlib
import sqlite3
from pathlib import Path

import rpp_env

ROOT = str(Path(rpp_env.__file__).parents[1])
SOURCE = '{"llm": "fake"}'
DAY = 86_400


def key(number):
    return hashlib.sha256(str(number).encode()).digest()


def several(*numbers):
    return {key(n): f"value {n}".encode() for n in numbers}


def sql(store, statement, *parameters):
    """As another program would; returns the rows."""
    connection = sqlite3.connect(store.path)
    try:
        with connection:
            return connection.execute(statement, parameters).fetchall()
    finally:
        connection.close()
