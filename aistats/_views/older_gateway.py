"""
The older gateway's peculiarity: its choices are the items of one answer.
"""

from .json import Wire, as_object

__all__ = ("is_itemised",)


def is_itemised(wire: Wire) -> bool:
    """
    Return whether the choices of an answer are the items of one answer, as the older gateway lists
    them.

    It gives the thought, the text and every tool call a choice of its own. Nothing says so on the
    wire; but it sends none of the keys looked for here, which the newer gateway and other servers
    send. `nativeResponseId` says nothing: both gateways send it.
    """
    newer = ("provider", "system_fingerprint")
    return not any(wire.get(key) for key in newer) and "prompt_tokens" not in as_object(
        wire.get("usage")
    )
