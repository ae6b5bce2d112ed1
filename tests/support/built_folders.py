"""Folders that processes build: starting such a process, and what a folder holds."""

import subprocess
import sys


def start(script, *args):
    """A Python process with its standard output in a pipe."""
    command = [sys.executable, "-c", script, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def visible(folder):
    return sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))


def left_over(folder):
    """Everything in a folder but finished folders and lock files."""
    hidden = [path.name for path in folder.glob(".*")]
    return [name for name in hidden if not name.endswith(".lock")]
