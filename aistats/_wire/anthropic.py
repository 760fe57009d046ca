"""
Converts Anthropic's stream frames, which the older gateway passes on unchanged, to chunks.
"""

from __future__ import annotations

from .._views.json import Wire, as_object, as_string

__all__ = ("as_chunk", "is_anthropic")

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}
_TYPES = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    }
)


def is_anthropic(frame: Wire) -> bool:
    """
    Return whether *frame* has Anthropic's format.
    """
    return as_string(frame.get("type")) in _TYPES and "choices" not in frame


def as_chunk(frame: Wire, usage: Wire) -> Wire:
    """
    Return *frame* as a chunk. Its `choices` are empty if the frame has no content.

    *usage* has the token counts so far and is updated: input tokens come in the first frame, output
    tokens in the last.
    """
    chunk: Wire = {"object": "chat.completion.chunk", "choices": []}
    if isinstance(frame.get("id"), str):
        chunk["id"] = frame["id"]
    message, delta = as_object(frame.get("message")), as_object(frame.get("delta"))
    if isinstance(message.get("model"), str):
        chunk["model"] = message["model"]
    counts = {**as_object(message.get("usage")), **as_object(frame.get("usage"))}
    if counts:
        usage.update(counts)
        chunk["usage"] = dict(usage)
    choice: Wire = {"index": 0, "delta": _delta(frame, delta), "finish_reason": None}
    reason = delta.get("stop_reason")
    if isinstance(reason, str):
        choice["finish_reason"] = _FINISH_REASONS.get(reason, reason)
    elif frame["type"] == "message_start":
        choice["delta"] = {"role": "assistant"}
    if choice["delta"] or choice["finish_reason"]:
        chunk["choices"] = [choice]
    return chunk


def _delta(frame: Wire, delta: Wire) -> Wire:
    block = as_object(frame.get("content_block"))
    kind = delta.get("type") or block.get("type")
    if kind in ("text_delta", "text"):
        return {"content": delta.get("text") or block.get("text") or ""}
    if kind in ("thinking_delta", "thinking"):
        return {"reasoning_content": delta.get("thinking") or block.get("thinking") or ""}
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        # Anthropic runs the last two itself, and only records them. They keep their type, so that
        # they are not mistaken for calls that the caller has to run.
        function = {"name": block.get("name"), "arguments": block.get("input") or ""}
        return {
            "tool_calls": [
                {
                    "index": frame.get("index"),
                    "id": block.get("id"),
                    "type": "function" if kind == "tool_use" else kind,
                    "function": function,
                }
            ]
        }
    if kind == "input_json_delta":
        return {
            "tool_calls": [
                {
                    "index": frame.get("index"),
                    "function": {"arguments": delta.get("partial_json") or ""},
                }
            ]
        }
    return {}
