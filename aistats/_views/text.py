"""
Text, thought and the gateway's own tools, as several views and the assembler read them.
"""

from .json import Wire, as_objects, as_string, is_list

__all__ = (
    "is_server_tool",
    "is_thought",
    "read_reasoning",
    "read_text",
)


_SERVER_TOOLS = frozenset(
    {
        "gateway_datetime",
        "phaseo_web_search",
        "phaseo_web_fetch",
        "phaseo_advisor",
        "phaseo_image_generation",
        "phaseo_apply_patch",
        "phaseo_subagent",
        "phaseo_fusion",
        "phaseo_search_models",
    }
)


def is_server_tool(name: str | None) -> bool:
    """
    Return whether the gateway itself runs the function *name*, so that a call of it is a record,
    not a request.
    """
    return name is not None and (name in _SERVER_TOOLS or name.startswith("phaseo_advisor_"))


def is_thought(choice: Wire) -> bool:
    """
    Return whether *choice* is marked as the model's thought, as the older gateway does.
    """
    return choice.get("reasoning") is True


def read_text(content: object) -> str | None:
    """
    Return the text of a message's or a delta's *content*, which some providers send as a list of
    parts.
    """
    if not is_list(content):
        return content if isinstance(content, str) else None
    return "".join(
        as_string(part.get("text"))
        for part in as_objects(content)
        if part.get("type") in ("text", "output_text")
    )


def read_reasoning(message: Wire) -> str:
    """
    Return the thought in a message or a delta: one of its spellings, since a provider may send the
    same text in two.
    """
    return (
        as_string(message.get("reasoning_content"))
        or as_string(message.get("reasoning"))
        or "".join(
            as_string(detail.get("text")) for detail in as_objects(message.get("reasoning_details"))
        )
        or "".join(
            read_text(part.get("thinking")) or ""
            for part in as_objects(message.get("content"))
            if part.get("type") == "thinking"
        )
    )
