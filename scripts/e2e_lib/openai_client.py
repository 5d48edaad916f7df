"""The official openai client against a running server: every way of asking that it has.

  python openai_client.py http://127.0.0.1:8000
"""

import json
import sys

import openai

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "adds",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99},
                           "b": {"type": "integer", "minimum": 0, "maximum": 99}},
            "required": ["a", "b"],
        },
    },
}


def forms(client, model):
    """Structured output and calls of tools, whole and streamed."""
    ask = dict(model=model, messages=[{"role": "user", "content": "Number the tribes"}], temperature=0.5, seed=3,
               max_completion_tokens=200)
    schema = {"type": "object", "properties": {"tribe": {"enum": ["Judah", "Levi"]}, "count": {"type": "integer",
              "minimum": 1, "maximum": 12}}, "required": ["tribe", "count"], "additionalProperties": False}
    said = client.chat.completions.create(
        **ask, response_format={"type": "json_schema", "json_schema": {"name": "tribe", "schema": schema}})
    value = json.loads(said.choices[0].message.content)
    assert value["tribe"] in ("Judah", "Levi") and 1 <= value["count"] <= 12, value

    choice = {"type": "function", "function": {"name": "add"}}
    message = client.chat.completions.create(**ask, tools=[TOOL], tool_choice=choice).choices[0].message
    call = message.tool_calls[0]
    assert call.type == "function" and call.function.name == "add" and message.content is None, message
    assert set(json.loads(call.function.arguments)) == {"a", "b"}, call
    name, arguments = "", ""
    for chunk in client.chat.completions.create(**ask, tools=[TOOL], tool_choice=choice, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    assert (name, arguments) == ("add", call.function.arguments), (name, arguments)


def main(base):
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0, timeout=60)
    model = client.models.list().data[0].id
    prompt = "And God said unto Moses"

    whole = client.completions.create(model=model, prompt=prompt, max_tokens=24, temperature=0)
    assert whole.choices[0].finish_reason == "length", whole
    assert whole.usage.completion_tokens == 24, whole.usage
    pieces = [
        chunk.choices[0].text
        for chunk in client.completions.create(
            model=model, prompt=prompt, max_tokens=24, temperature=0, stream=True
        )
    ]
    assert "".join(pieces) == whole.choices[0].text, pieces

    many = client.completions.create(
        model=model, prompt=[prompt, "In the beginning"], n=3, max_tokens=8, temperature=0.8, seed=5,
        logprobs=2, echo=True,
    )
    assert [c.index for c in many.choices] == list(range(6))
    for choice in many.choices:
        logprobs = choice.logprobs
        assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset)
        assert logprobs.token_logprobs[0] is None and all(v <= 0 for v in logprobs.token_logprobs[1:])

    stopped = client.completions.create(
        model=model, prompt=prompt, max_tokens=64, temperature=0, stop=["God", "LORD"]
    )
    assert stopped.choices[0].finish_reason == "stop" and "LORD" not in stopped.choices[0].text

    messages = [{"role": "user", "content": [{"type": "text", "text": "Who art thou?"}]}]
    chat = client.chat.completions.create(
        model=model, messages=messages, max_completion_tokens=16, temperature=0, logprobs=True,
        top_logprobs=3,
    )
    assert chat.choices[0].message.role == "assistant"
    content = chat.choices[0].logprobs.content
    assert all(len(entry.top_logprobs) == 3 for entry in content)
    assert b"".join(bytes(e.bytes) for e in content).decode() == chat.choices[0].message.content
    text, usage, roles = "", None, 0
    for chunk in client.chat.completions.create(
        model=model, messages=messages, max_completion_tokens=16, temperature=0, stream=True,
        stream_options={"include_usage": True},
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            roles += choice.delta.role == "assistant"
            text += choice.delta.content or ""
    assert text == chat.choices[0].message.content and roles == 1
    assert usage.completion_tokens == chat.usage.completion_tokens

    forms(client, model)
    for wrong, error in [
        (dict(model="nobody"), openai.NotFoundError),
        (dict(model=model, temperature=9), openai.BadRequestError),
        (dict(model=model, max_tokens=-1), openai.BadRequestError),
    ]:
        try:
            client.completions.create(prompt=prompt, **wrong)
            raise AssertionError(f"{wrong} was taken")
        except error as refused:
            assert refused.body["message"], refused
    print("openai", openai.__version__, "ok")


if __name__ == "__main__":
    main(sys.argv[1])
