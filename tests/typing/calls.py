"""
What type checkers accept of a call, and what they catch.

Checked by mypy and pyright, never run. Each line that must not pass says so to both, and both
complain of a line that says so without need.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aistats
from aistats import (
    AsyncClient,
    AsyncStream,
    ChatCompletionsParams,
    ChatCompletionsRequest,
    ChatCompletionsResponse,
    Client,
    Stream,
)


def documented(client: Client) -> ChatCompletionsResponse:
    """
    The documented call passes.
    """
    return client.generate_text(
        {
            "model": "openai/gpt-4o-mini",
            "messages": [
                {"role": "system", "content": "You are helpful."},
                {"role": "user", "content": "Write a limerick about lighthouses."},
            ],
            "temperature": 0.5,
        }
    )


def variables_without_annotations(client: Client) -> Stream:
    """
    So do messages in a variable without an annotation.
    """
    messages = [{"role": "user", "content": "hi"}]
    client.generate_text(model="m", messages=messages)
    client.generate_text({"model": "m", "messages": messages})
    client.generate_text(model="m", messages="hi", timeout=5, extra_body={"new": 1})
    return client.stream_text(model="m", messages=messages)


def parameters_in_a_dict(client: Client, anything: dict[str, Any]) -> None:
    """
    A dict of parameters is annotated, or passed first; `**` takes it where it has everything.
    """
    options: ChatCompletionsParams = {"temperature": 0.5, "stop": "x"}
    client.generate_text(options, model="m", messages="hi")
    client.generate_text({"model": "m", "messages": "hi"}, temperature=1)
    client.generate_text(model="m", messages="hi", **anything)
    complete: ChatCompletionsParams = {"model": "m", "messages": "hi"}
    client.generate_text(**complete)
    client.stream_text(**complete)


async def the_same_asynchronously(client: AsyncClient) -> AsyncStream:
    """
    `AsyncClient` takes the same.
    """
    messages = [{"role": "user", "content": "hi"}]
    options: ChatCompletionsParams = {"temperature": 0.5, "stop": ["x"]}
    response: ChatCompletionsResponse = await client.generate_text(
        options, model="m", messages=messages
    )
    print(response.text)
    return client.stream_text({"model": "m", "messages": messages})


def runs(client: Client, rows: list[str]) -> None:
    """
    `map` takes options of a run and of a call beside the parameters.
    """
    client.map(rows, model="m", concurrency="auto", rpm=60, timeout=None, temperature=0.5).wait()
    client.map(rows, prompt=str, checkpoint="c.jsonl", progress=print, on_error="raise")


def messages_of_every_kind(client: Client, response: ChatCompletionsResponse) -> None:
    """
    Messages may be dicts, messages from a response, or both.
    """
    calls = response.tool_calls
    client.generate_text(
        model="m",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": calls},
            response.message,
            response.message.to_param(),
            {"role": "tool", "tool_call_id": "1", "content": "42"},
        ],
    )
    history = [{"role": "user", "content": "hi"}]
    client.generate_text(model="m", messages=[*history, response.message])
    client.generate_text(model="m", messages=(response.message,))


def types_without_an_import_of_their_own(client: Client) -> None:
    """
    `aistats.types` is known with the package.
    """
    messages: list[aistats.types.MessageParam] = [{"role": "user", "content": "hi"}]
    response = client.generate_text(model="m", messages=messages)
    messages.append(response.message)
    messages.append({"role": "tool", "tool_call_id": "1", "content": [{"type": "new", "a": 1}]})
    client.stream_text({"model": "m", "messages": messages})


def tools_and_formats(client: Client) -> None:
    """
    Tools, formats and choices may be written in place or stand in variables.
    """
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    choice = {"type": "function", "function": {"name": "f"}}
    client.generate_text(
        model="m", messages="hi", tools=tools, response_format=form, tool_choice=choice
    )
    client.generate_text(
        model="m",
        messages="hi",
        tools=[{"type": "phaseo:web_search", "parameters": {"max_results": 3}}, {"type": "new"}],
        tool_choice="auto",
        response_format="json",
        reasoning={"effort": "low"},
        provider={"order": ["openai"], "allow_fallbacks": False},
        service_tier="a tier of tomorrow",
        temperature=None,
        seed=1,
        top_p=1,
    )


def images_and_audio(client: Client) -> None:
    """
    The parts that `image` and `audio` make may be written in place or stand in variables.
    """
    client.generate_text(
        model="m",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    aistats.image("a.png", detail="low"),
                    aistats.audio(b"", format="pcm16"),
                ],
            }
        ],
    )
    photo = aistats.image(Path("a.png"))
    content = [{"type": "text", "text": "What is this?"}, photo]
    client.generate_text(model="m", messages=[{"role": "user", "content": content}])
    messages = [{"role": "user", "content": [{"type": "text", "text": "?"}, photo]}]
    client.generate_text(model="m", messages=messages)
    aistats.image(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def requests_made_earlier(client: Client, params: ChatCompletionsParams) -> None:
    """
    A request can be made earlier, and completed in the call.
    """
    request = ChatCompletionsRequest(params, temperature=0.5)
    client.generate_text(request)
    client.stream_text(request.replace(temperature=None, seed=3), timeout=3.0)
    client.generate_text(**params)
    client.generate_text(params, model="another")


def mistakes(client: Client, anything: list[int]) -> None:
    """
    A wrong name, a wrong type or a wrong argument of the call is caught.
    """
    client.generate_text(model="m", messages="hi", temprature=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.generate_text(model="m", messages="hi", temperature="hot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate_text({"model": "m", "messages": "hi", "temprature": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate_text({"model": "m", "messages": "hi", "top_p": "1"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate_text(model="m", messages=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate_text(model="m", messages="hi", stop=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate_text(model="m", messages="hi", reasoning={"efort": "low"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate_text(model="m", messages="hi", provider="openai")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate_text(model="m", messages="hi", timeout="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.generate_text(model="m", messages="hi", stream=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.generate_text({"model": "m", "messages": "hi", "stream": True})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.stream_text(model="m", messages="hi", stream=False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.generate_text("hi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.stream_text(model="m", messages=anything)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.stream_text(model="m", messages="hi", temprature=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.stream_text({"model": "m", "temprature": 0.5})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.map(["a"], model="m", concurency=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.map(["a"], model="m", rpm="fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.map(["a"], model="m", on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ChatCompletionsRequest(model="m", messages="hi", temprature=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ChatCompletionsRequest({"model": "m", "temprature": 0.5})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def mistakes_in_messages(client: Client) -> None:
    """
    A wrong role or key of a message is caught where the messages are annotated.
    """
    role: list[aistats.types.MessageParam] = [{"role": "usr", "content": "hi"}]  # type: ignore[list-item]  # pyright: ignore[reportAssignmentType]
    key: list[aistats.types.MessageParam] = [{"role": "user", "contnt": "hi"}]  # type: ignore[list-item]  # pyright: ignore[reportAssignmentType]
    more: list[aistats.types.MessageParam] = [{"role": "user", "content": "hi", "nam": "x"}]  # type: ignore[list-item]  # pyright: ignore[reportAssignmentType]
    none: aistats.types.UserMessageParam = {"role": "user"}  # type: ignore[typeddict-item]  # pyright: ignore[reportAssignmentType]
    client.generate_text(model="m", messages=[*role, *key, *more, none])


def mistakes_that_pass(client: Client) -> None:
    """
    What is caught only at run time: messages in place, since a dict in a variable must pass there;
    and a missing model, since the dict or request before the keywords may have it.
    """
    client.generate_text(model="m", messages=[{"role": "usr", "content": "hi"}])
    client.generate_text(messages="hi")
    client.generate_text({"messages": "hi"})


def statuses(error: aistats.APIStatusError) -> int:
    """
    An error with a status has one.
    """
    return error.status + 1


def outcomes(run: aistats.Run) -> str:
    """
    An outcome has a text or an error. Pyright takes the truth of an attribute for no sign of which.
    """
    found = ""
    for outcome in run:
        if outcome.error is None:
            found += outcome.text + (outcome.response.id or "")
        else:
            raise outcome.error
    for outcome in run:
        if outcome.ok is True:
            found += outcome.text
    for outcome in run:
        if outcome.ok:
            print(outcome.text.upper())  # pyright: ignore[reportOptionalMemberAccess]
    return found


async def the_same_mistakes_asynchronously(client: AsyncClient) -> None:
    """
    `AsyncClient` catches the same.
    """
    await client.generate_text(model="m", messages="hi", temprature=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.generate_text({"model": "m", "temprature": 0.5})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.stream_text(model="m", messages="hi", temperature="hot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
