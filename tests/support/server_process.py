"""A server as a process of its own: started, waited for, killed and started again on its port."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

RPP = Path(sys.executable).with_name("rpp")
_SECONDS_TO_START = 300


class ServerProcess:
    """A server under test; a context manager.

    Args:
        command: From a port to the command that serves there.
        log: File for what the server prints.
        health: Path that answers 200 as soon as the server is ready.
        environment: Variables besides those of this process.
    """

    def __init__(self, command, *, log, health="/health", environment=None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.command = [str(word) for word in command(self.port)]
        self.log, self.health, self.environment = log, health, environment or {}
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        """Starts the server and returns when it answers.

        Raises:
            AssertionError: It has ended or does not answer; with the end of its log.
        """
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **self.environment},
                start_new_session=True,
            )
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.health}"):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        self.kill()
        raise AssertionError(self.log.read_text()[-4000:])

    def kill(self):
        """Ends the server and its children without warning, as by kill -9."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_rpp(*arguments, cwd):
    """Starts the command `rpp`; see `output_at_end`."""
    return subprocess.Popen(
        [str(RPP), *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def output_at_end(process, status=0, timeout=400):
    """Waits for a process and returns what it printed; its exit status must be `status`."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    assert process.returncode == status, output
    return output
