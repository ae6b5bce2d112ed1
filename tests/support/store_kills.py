"""Processes that share a store of answers, killed at random moments: nothing is lost or wrong.

    python tests/support/store_kills.py STORE SEED STOP

is one of these processes. It reads from a pipe which numbers are stored, and works until the file
STOP exists. The right value is a function of the key, so every process can judge what it reads. It
says on a pipe what it is about to put and, when `put_many` has returned, that it is stored. Some of
the kills come right after the former, to hit the writing itself.
"""

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from rpp_env.store import AnswerStore

BATCH = 16


def key_for(number):
    return hashlib.sha256(str(number).encode()).digest()


def right_value(key):
    return hashlib.shake_128(key).digest(40 + key[0])


def say(word, what):
    os.write(1, (json.dumps([word, what]) + "\n").encode())  # whole or not at all


def check(store, numbers):
    """Reads what was stored, and says how much it was."""
    keys = [key_for(number) for number in numbers]
    found = store.get_many(keys)
    assert all(found[key] == right_value(key) for key in found), "a wrong answer"
    assert len(found) == len(set(keys)), "an answer is lost"
    say("hits", len(found))


def work(path, seed, stop):
    """Puts new and old answers, and checks what anybody has stored."""
    draw = random.Random(seed)
    known = json.loads(sys.stdin.readline())  # stored by anybody so far
    with AnswerStore(path) as store:
        if known:
            check(store, known)
        while not stop.exists():
            new = [draw.getrandbits(48) for _ in range(BATCH)]
            assert not store.get_many(map(key_for, new)), "an answer that nobody has put"
            old = draw.sample(known, min(len(known), BATCH // 4))
            answers = {key: right_value(key) for key in map(key_for, new + old)}
            say("put", new)
            store.put_many(answers, source=f'{{"llm": "{seed % 3}"}}')
            say("stored", new)
            known += new
            check(store, draw.sample(known, BATCH))
            time.sleep(draw.random() * 0.02)


class Worker:
    """A process that works, and what it has said."""

    def __init__(self, path, stop, *, seed, known):
        self.put, self.stored, self.hits = [], [], 0
        self.errors = path.with_name(f"errors-{seed}.txt")
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(path), str(seed), str(stop)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.process.stdin.write(json.dumps(known) + "\n")
        self.process.stdin.close()
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()

    def listen(self):
        for line in self.process.stdout:
            word, what = json.loads(line)
            if word == "put":
                self.put.append(what)
            elif word == "stored":
                self.stored.append(what)
            else:
                self.hits += what
        self.process.stdout.close()

    def wait_for_a_put(self, after):
        deadline = time.monotonic() + 60
        while len(self.put) <= after:
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.0005)

    def end(self, *, kill):
        if kill:
            self.process.kill()
        status = self.process.wait(60)
        self.listener.join()
        assert status == (-signal.SIGKILL if kill else 0), self.errors.read_text()


def run_kills(folder, *, num_processes, num_kills, seed=0):
    """Kills and starts processes anew; returns what is worth telling of it."""
    path, stop = folder / "answers.sqlite", folder / "stop"
    draw = random.Random(seed)
    seeds = iter(range(seed, seed + num_processes + num_kills))
    stored, unsure, hits = [], [], 0

    def start():
        some = draw.sample(stored, min(len(stored), 400))
        return Worker(path, stop, seed=next(seeds), known=some)

    def take(worker):
        nonlocal hits
        hits += worker.hits
        stored.extend(number for batch in worker.stored for number in batch)
        unsure.extend(worker.put[len(worker.stored) :])

    workers = [start() for _ in range(num_processes)]
    try:
        for kill in range(num_kills):
            i = draw.randrange(num_processes)
            workers[i].wait_for_a_put(0)
            if kill % 2:
                workers[i].wait_for_a_put(len(workers[i].put))
                time.sleep(draw.random() * 0.002)
            else:
                time.sleep(draw.random() * 0.1)
            workers[i].end(kill=True)
            take(workers[i])
            workers[i] = start()
        for worker in workers:
            worker.wait_for_a_put(0)
        stop.touch()
        for worker in workers:
            worker.end(kill=False)
            take(worker)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
            worker.listener.join()

    check_what_is_left(path, stored, unsure)
    return {"stored": len(stored), "kills in a put": len(unsure), "hits": hits}


def check_what_is_left(path, stored, unsure):
    with AnswerStore(path) as store:
        keys = [key_for(number) for number in stored]
        assert store.get_many(keys) == {key: right_value(key) for key in keys}
        whole = 0
        for batch in unsure:
            found = store.get_many(map(key_for, batch))
            assert len(found) in (0, BATCH)
            assert all(value == right_value(key) for key, value in found.items())
            whole += len(found)
        assert store.stats().entries == len(set(stored)) + whole
        found = store.verify()
        assert found.clean
        assert (found.entries, found.damaged) == (len(set(stored)) + whole, ())
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
