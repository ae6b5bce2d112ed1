"""Changes to what `OpenAIServer` would answer, for its option `amend`."""

import json


def always(answer, status=200):
    return lambda path, body, usual: (status, answer)


def with_message(usual, **message):
    choice = {**usual["choices"][0], "message": {"role": "assistant", **message}}
    return {**usual, "choices": [choice]}


def refuses_heat(status, answer):
    def amend(path, body, usual):
        return (status, answer) if "Heat" in json.dumps(body) else (200, usual)

    return amend
