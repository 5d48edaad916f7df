"""What the server answers against OpenAI's published schema, as the openai package has it in pydantic models.

  python openai_schema.py http://127.0.0.1:8000

The client itself reads answers leniently; here they are validated strictly: a required member that is missing, or one
of another kind, is a failure. Members that the schema does not know (vLLM's dialect) are allowed.
"""

import json
import sys
import urllib.error
import urllib.request

from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject

PROMPT = {"prompt": "And God said unto Moses"}
CHAT = {"messages": [{"role": "user", "content": "Who art thou?"}]}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"]}}}
MANNERS = [
    {"max_tokens": 8},
    {"max_tokens": 8, "n": 3, "seed": 5, "temperature": 0.9},
    {"max_tokens": 64, "stop": ["LORD", "the"]},
    {"max_tokens": 8, "return_token_ids": True, "timings_per_token": True},
    {"max_tokens": 8, "structured_outputs": {"choice": ["Moses", "Aaron"]}},
]
COMPLETION_MANNERS = [{"max_tokens": 4, "logprobs": 2}, {"max_tokens": 4, "echo": True}, {"max_tokens": 0}]
CHAT_MANNERS = [
    {"max_tokens": 4, "logprobs": True, "top_logprobs": 2},
    {"max_completion_tokens": 100, "tools": [TOOL], "tool_choice": "required"},
    {"max_completion_tokens": 100, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}},
]
WRONG = [
    ("/v1/completions", {}), ("/v1/completions", {"prompt": "a", "model": "nobody"}),
    ("/v1/completions", {"prompt": "a" * 100000}), ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {**CHAT, "temperature": 9}), ("/v1/nothing", {}), ("/tokenize", {"prompt": 5}),
    ("/detokenize", {"tokens": [-1]}),
]


def ask(url, body=None):
    """Status and raw answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def events(raw):
    lines = raw.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""], lines[-2:]
    for line in lines[:-2]:
        assert line.startswith("data: "), line
        yield json.loads(line[len("data: "):])


def validate(model, value):
    model.model_validate_json(json.dumps(value), strict=True)


def validate_completion_chunk(chunk):
    """The package has one model for wholes and chunks, so it asks for a reason that only the last chunk has."""
    for choice in chunk["choices"]:
        assert "finish_reason" in choice, choice
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    validate(Completion, chunk)


def main(base):
    counts = {"wholes": 0, "chunks": 0, "errors": 0, "models": 0}
    for path, said, manners, whole, chunk in [
        ("/v1/completions", PROMPT, COMPLETION_MANNERS, lambda v: validate(Completion, v), validate_completion_chunk),
        ("/v1/chat/completions", CHAT, CHAT_MANNERS, lambda v: validate(ChatCompletion, v),
         lambda v: validate(ChatCompletionChunk, v)),
    ]:
        for manner in MANNERS + manners:
            status, raw = ask(base + path, {**said, **manner})
            assert status == 200, (path, manner, raw)
            whole(json.loads(raw))
            counts["wholes"] += 1
            for options in ({}, {"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True}):
                status, raw = ask(base + path, {**said, **manner, "stream": True, "stream_options": options})
                assert status == 200, (path, manner, raw)
                for event in events(raw):
                    chunk(event)
                    counts["chunks"] += 1
    for path, body in WRONG:
        status, raw = ask(base + path, body)
        assert 400 <= status < 500, (path, status)
        validate(ErrorObject, json.loads(raw)["error"])
        counts["errors"] += 1
    listed = json.loads(ask(base + "/v1/models")[1])
    assert listed["object"] == "list" and listed["data"], listed
    for model in listed["data"]:
        validate(Model, model)
        validate(Model, json.loads(ask(f"{base}/v1/models/{model['id']}")[1]))
        counts["models"] += 2
    print("OpenAI's schema:", ", ".join(f"{n} {what}" for what, n in counts.items()), "are what it says")


if __name__ == "__main__":
    main(sys.argv[1])
