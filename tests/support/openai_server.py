"""A server that answers as OpenAI-compatible ones do, by `FakeLLM`, and fails on demand.

    python tests/support/openai_server.py --port 0 --fault reset --probability .3

prints its base URL and serves until it is killed. Tests take it from the fixture `serve`.
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import threading
import time
from collections import Counter

from openai_dialects import (
    DIALECTS,
    ECHOING,
    FAULTS,
    LIKELY,
    OPENING,
    OPENING_ID,
    Arrival,
    Refusal,
    piece,
)

from rpp_env.llm.base import Chat, Decoding
from rpp_env.llm.fake import FakeLLM, split_tokens


class OpenAIServer:
    """Serves in a thread of its own; a context manager.

    Args:
        dialect: Of `DIALECTS`.
        fault: Of `FAULTS`, or "mix" for all of them in turn.
        probability: With which a request fails so.
        seed: Of what fails.
        key: What is demanded as the bearer's token.
        llm: What answers.
        opened: Whether texts begin with a special token.
        delay: Seconds that each answer takes.
        slots: Requests that are worked on at the same time; others wait, unless their client has
            gone. None for all.
        late: Seconds that an answer takes which fails by time-out.
        first: So many requests fail, and then no other; by default it is left to the probability.
        waits: Headers of a 429, 500 or 503.
        refusal: Status with which every request is refused, and the message.
        refuses: Parameters that are refused by name; "system" stands for a system turn.
        amend: Changes outcomes: (path, body, answer) -> (status, answer). An answer that is text is
            sent as it is.
    """

    def __init__(
        self,
        *,
        dialect="vllm",
        fault=None,
        probability=0.0,
        seed=0,
        key=None,
        llm=None,
        opened=True,
        delay=0.0,
        slots=None,
        late=2.0,
        first=None,
        waits=None,
        refusal=None,
        refuses=(),
        amend=None,
        port=0,
    ):
        assert dialect in DIALECTS
        assert fault in (None, "mix", *FAULTS)
        self.dialect, self.fault, self.probability, self.key = dialect, fault, probability, key
        self.llm = llm or FakeLLM()
        self.opened = opened and dialect == "vllm"
        self.delay, self.late, self.first, self.refusal = delay, late, first, refusal
        self.slots = slots
        self.refuses, self.amend = refuses, amend
        self.waits = {"Retry-After": "0.05"} if waits is None else waits
        self.port = port
        self.arrivals: list[Arrival] = []
        self.faults: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.in_flight = self.most_in_flight = 0
        self.holds = None  # of a request's body: whether it waits; tests set and unset it
        self._random = random.Random(seed)
        self._loop = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens, on the port of last time if there was one."""
        self._loop = asyncio.new_event_loop()
        listening = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(listening,), daemon=True)
        self._thread.start()
        assert listening.wait(60)

    def stop(self):
        """Resets all connections, and refuses new ones."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join()
            self._loop = None

    def _work(self, listening):
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(listening))
        finally:
            self._loop.close()

    async def _serve(self, listening):
        self._stopped = asyncio.Event()
        self._connections = set()
        self._working = asyncio.Semaphore(self.slots or 1_000_000)
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        await self._stopped.wait()
        server.close()
        for task, writer in list(self._connections):
            _reset(writer)
            task.cancel()
        await asyncio.gather(*(task for task, _ in self._connections), return_exceptions=True)
        await server.wait_closed()
        self.in_flight = 0

    async def _connected(self, reader, writer):
        mine = (asyncio.current_task(), writer)
        self._connections.add(mine)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(mine)
            writer.close()

    async def _answer_one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        keys = [line.split(" ", 2)[2] for line in head if line.lower().startswith("authorization")]
        self.keys.update(keys)
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or "{}")
        fault = self._drawn()
        self.arrivals.append(Arrival(path, body, time.monotonic(), fault))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            while self.holds is not None and self.holds(body):
                await asyncio.sleep(0.01)
            async with self._working:
                if self.slots and reader.at_eof():
                    return False
                await asyncio.sleep(self.late if fault == "timeout" else self.delay)
            return await self._reply(writer, fault, *self._outcome(method, path, body, keys, fault))
        finally:
            self.in_flight -= 1

    def _drawn(self):
        failing = (
            len(self.arrivals) < self.first
            if self.first is not None
            else (self._random.random() < self.probability)
        )
        if self.fault is None or not failing:
            return None
        fault = self._random.choice(FAULTS) if self.fault == "mix" else self.fault
        self.faults[fault] += 1
        return fault

    def _outcome(self, method, path, body, keys, fault):
        """Status, JSON and headers."""
        if fault in ("429", "500", "503"):
            return int(fault), {"error": {"message": "try later"}}, self.waits
        try:
            if self.key is not None and keys != [self.key]:
                raise Refusal(401, f"Incorrect API key: {keys[0] if keys else None}")
            if self.refusal is not None:
                raise Refusal(*self.refusal)
            self._refuse_parameters(body)
            answer = self._answer(method, path, body)
        except Refusal as refused:
            echoed = {"X-Request-Id": keys[0]} if keys else {}
            return refused.status, refused.answer, echoed
        if fault == "shape":
            answer = self._misshapen(answer)
        if fault == "empty" and "choices" in answer and not body.get("logprobs"):
            answer["choices"][0].update(text="", message={"role": "assistant", "content": ""})
        status = 200
        if self.amend is not None:
            status, answer = self.amend(path, body, answer)
        return status, answer, {}

    def _refuse_parameters(self, body):
        for name in self.refuses:
            if name == "system" and body.get("messages", [{}])[0].get("role") == "system":
                raise Refusal(400, "System role not supported")
            if name in body:
                raise Refusal(400, f"Unsupported parameter: '{name}' is not supported here.")

    async def _reply(self, writer, fault, status, answer, headers):
        if fault == "reset":
            _reset(writer)
            return False
        text = answer if isinstance(answer, str) else json.dumps(answer)
        content = ("<html>gateway</html>" if fault == "not_json" else text).encode()
        lines = [
            f"HTTP/1.1 {status} Whatever",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if fault == "half":
            content = content[: len(content) // 2]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + content)
        await writer.drain()
        return fault != "half"

    def _misshapen(self, answer):
        if "choices" not in answer:
            return self._random.choice([{}, {"tokens": "abc", "count": 3}, {"prompt": 7}, []])
        choice = answer["choices"][0]
        broken = [{}, {"choices": None}, {"choices": []}, {"choices": ["text"]}, {"choices": [7]}]
        logprobs = choice.get("logprobs")
        if not logprobs:
            broken += [{"choices": [{**choice, "text": 5, "message": {"content": [7]}}]}]
        elif logprobs.get("token_logprobs"):
            some = logprobs["token_logprobs"]
            # The last one may be of a token that was generated, which nobody reads.
            nan = float("nan")
            for wrong in (some[:-2], [*some[:-2], nan, nan], [*some[:-2], "x", "x"], None):
                told = {**logprobs, "token_logprobs": wrong}
                broken.append({"choices": [{**choice, "logprobs": told}]})
        return self._random.choice(broken)

    def _answer(self, method, path, body):
        if (method, path) == ("GET", "/v1/models"):
            return {"object": "list", "data": [{"id": "fake", "object": "model"}]}
        answers = {"/v1/chat/completions": self._chat}
        if self.dialect != "ollama":
            answers["/v1/completions"] = self._completion
        if self.dialect == "vllm":
            answers |= {"/tokenize": self._tokenize, "/detokenize": self._detokenize}
        if self.dialect == "llamacpp":
            answers["/tokenize"] = lambda body: {"tokens": []}
            answers["/apply-template"] = lambda body: {"prompt": self._template(body["messages"])}
        if path not in answers and self.dialect == "lmstudio":
            return {"error": f"Unexpected endpoint or method. (POST {path})"}
        if path not in answers:
            raise Refusal(404, f"no {path} here")
        return answers[path](body)

    def _tokenize(self, body):
        if "messages" in body:
            ids = self._ids(self._template(body["messages"]))
        else:
            ids = self._ids(body["prompt"])
            if self.opened and body.get("add_special_tokens", True):
                ids = [OPENING_ID, *ids]
        return {"tokens": ids, "count": len(ids), "max_model_len": 8192}

    def _detokenize(self, body):
        return {"prompt": "".join(map(piece, body["tokens"]))}

    def _template(self, messages):
        turns = {message["role"]: message["content"] for message in messages}
        chat = self.llm.apply_chat_template(system=turns.get("system", ""), user=turns["user"])
        return f"{OPENING if self.opened else ''}{chat}"

    def _ids(self, text):
        ids = []
        for number, part in enumerate(text.split(OPENING) if self.opened else [text]):
            ids += [OPENING_ID] if number else []
            ids += [int.from_bytes(b"\x01" + token.encode()) for token in split_tokens(part)]
        return ids

    def _chat(self, body):
        turns = {message["role"]: message["content"] for message in body["messages"]}
        if ("assistant" in turns) != bool(body.get("continue_final_message")):
            raise Refusal(400, "a last turn of the assistant is to be continued")
        chat = Chat(
            system=turns.get("system", ""),
            user=turns["user"],
            answer_prefix=turns.get("assistant", ""),
        )
        written = self._written(chat, body)
        message = {"role": "assistant", "content": written.text}
        return self._choices({"message": message, "finish_reason": written.finish_reason}, body)

    def _completion(self, body):
        prompt = body["prompt"]
        if isinstance(prompt, str):
            ids = [OPENING_ID] * self.opened + self._ids(prompt)
        else:
            assert self.dialect == "vllm"
            ids = prompt
        text = "".join(map(piece, ids[1:] if self.opened else ids))
        if body.get("echo"):
            return self._choices(self._echoed(ids, text, body), body)
        if body.get("logprobs") is not None:
            return self._choices({"text": " A", **self._likely(text, body)}, body)
        written = self._written(text, body)
        return self._choices({"text": written.text, "finish_reason": written.finish_reason}, body)

    def _echoed(self, ids, text, body):
        if self.dialect == "llamacpp":
            raise Refusal(500, "Only no echo is supported")
        if self.dialect not in ECHOING:
            raise Refusal(400, "echo does not go with logprobs")
        if self.dialect != "vllm" and not body["max_tokens"]:
            raise Refusal(400, "max_tokens must be 1 or more")
        pieces = [piece(number) for number in ids]
        first = int(self.opened)
        log_probs = [0.0] * first + self.llm.token_logprobs("", pieces[first:])
        if body["max_tokens"]:
            pieces, log_probs = [*pieces, " and"], [*log_probs, -1.0]
        if self.dialect == "shifted":
            log_probs = [*log_probs[1:], -1.0]
        begins = [sum(map(len, pieces[:number])) for number in range(len(pieces))]
        told = {"token_logprobs": [None, *log_probs[1:]], "text_offset": begins, "tokens": pieces}
        return {"text": text, "logprobs": told, "finish_reason": "length"}

    def _likely(self, text, body):
        most = {"vllm": 20, "llamacpp": 100_000}.get(self.dialect, 5)
        if body["logprobs"] > most or ("logprob_token_ids" in body and self.dialect != "vllm"):
            raise Refusal(400, f"logprobs must be at most {most}, and nothing else")
        names = [piece(number) for number in body.get("logprob_token_ids", ())] or LIKELY
        (log_probs,) = self.llm.next_token_logprobs([text], [names])
        pairs = sorted(zip(log_probs.tolist(), names, strict=True), reverse=True)
        if "logprob_token_ids" not in body:
            pairs = pairs[: body["logprobs"]]
        if body.get("return_tokens_as_token_ids"):
            pairs = [(log_prob, f"token_id:{self._ids(name)[0]}") for log_prob, name in pairs]
        if self.dialect == "llamacpp":
            top = [{"token": name, "logprob": log_prob} for log_prob, name in pairs]
            return {"logprobs": {"content": [{"token": top[0]["token"], "top_logprobs": top}]}}
        return {"logprobs": {"top_logprobs": [{name: log_prob for log_prob, name in pairs}]}}

    def _written(self, prompt, body):
        decoding = Decoding(
            temperature=body.get("temperature", 1.0),
            top_p=body.get("top_p", 1.0),
            max_tokens=body.get("max_completion_tokens") or body["max_tokens"],
        )
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        (written,) = self.llm.generate(
            [prompt], decoding=decoding, seeds=[body.get("seed", 0)], schemas=schema and [schema]
        )
        return written

    def _choices(self, choice, body):
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return {"id": "1", "model": body["model"], "choices": [choice], "usage": usage}


def _reset(writer):
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dialect", choices=DIALECTS, default="vllm")
    parser.add_argument("--fault", choices=("mix", *FAULTS))
    parser.add_argument("--probability", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--key")
    parser.add_argument("--late", type=float, default=2.0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--fake", default="0", help="seed of the LLM that answers")
    options = vars(parser.parse_args())
    with OpenAIServer(llm=FakeLLM(options.pop("fake")), **options) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
