"""
The keywords of a call that are not part of its request, each declared once.

A key that is absent means the default: the client's own setting, or what is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

if TYPE_CHECKING:
    import os

    from ._call.retry import RetryPolicy
    from ._map.outcome import Progress
    from ._map.plan import Budget
    from ._timeout import Timeout

__all__ = ("CALL_OPTIONS", "RUN_OPTIONS", "CallOptions", "RunOptions", "split")


class CallOptions(TypedDict, total=False):
    """
    Options of one call, in place of the client's.

    Keys:
        timeout (a Timeout, a number of seconds, or None): Limits of this call. A number limits the
            whole call; None means no limit. Default: the client's.
        max_retries (a whole number, or a RetryPolicy): How often a failed call is tried again.
            Default: the client's.
        extra_headers (a mapping): Headers on top of the client's. They win.
        extra_query (a mapping to strings, numbers or booleans): Added to the URL's query.
        extra_body (a mapping): Put into the request's JSON as it is, unchecked. It wins.
    """

    timeout: Timeout | float | None
    max_retries: int | RetryPolicy | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, str | float | bool] | None
    extra_body: Mapping[str, Any] | None


class RunOptions(TypedDict, total=False):
    """
    Options of a run of `map`.

    Keys:
        prompt (a function): Returns what to ask for a row: a prompt or messages. With `AsyncClient`
            this function and the next two may be asynchronous; they are awaited row by row.
        request (a function): Returns the whole request for a row. Give this or `prompt`.
        key (a function): Returns the name of a row's request in the checkpoint. Default: a hash of
            the request.
        concurrency (a whole number, or "auto"): Requests in flight at once, at most the client's
            max_connections. "auto", the default, finds how many the gateway takes. With a number,
            a request that was rejected without a `Retry-After` keeps its place and waits up to the
            retry policy's `base` before it is sent again.
        rpm (a number above 0): Most requests a minute. Default: no limit.
        tpm (a number above 0): Most tokens a minute, prompts and answers. Default: no limit.
        budget (a Budget): What the run may use up. Default: no limit.
        checkpoint (a path): File that records each answer. The same call with the same file skips
            what is done, tries failures again, and goes on. Requests are the same if their bodies
            are; extra_headers, extra_query and the gateway's address do not count.
        dedup (true or false): Whether rows with the same request share one call, where they are
            near to each other or the first is in the checkpoint. Default: true.
        progress (true or false, or a function): True shows the progress in a notebook or on a
            terminal, and nothing elsewhere. A function gets `Progress` snapshots, about 10 a
            second.
        on_error ("collect" or "raise"): "raise" ends the run with the first error, and raises it.
            Default: "collect".
        stop_after (a number above 0): This many failures end the run. Below 1 it is a share of what
            is done, once 20 rows are.
    """

    prompt: Callable[[Any], Any] | None
    request: Callable[[Any], Any] | None
    key: Callable[[Any], str] | None
    concurrency: int | Literal["auto"]
    rpm: float | None
    tpm: float | None
    budget: Budget | None
    checkpoint: str | os.PathLike[str] | None
    dedup: bool
    progress: bool | Callable[[Progress], object] | None
    on_error: Literal["collect", "raise"]
    stop_after: float | None


CALL_OPTIONS: Final = frozenset(CallOptions.__annotations__)
RUN_OPTIONS: Final = frozenset(RunOptions.__annotations__)


def split(
    keywords: Mapping[str, Any], names: frozenset[str]
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """
    Return the *keywords* that are among *names*, and the others.
    """
    if names.isdisjoint(keywords):
        return {}, keywords
    chosen = {name: value for name, value in keywords.items() if name in names}
    return chosen, {name: value for name, value in keywords.items() if name not in names}
