"""
Makes the exception for a response with an error status, with advice in its message.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

from .._errors import APIStatusError, status_error_class
from .._exchange import Exchange
from .._views.json import is_list, is_object
from .body_text import first_part, parsed_body, text_of_page
from .error_report import ErrorReport, retry_delay_in

__all__ = ("status_error", "status_error_from")


def status_error_from(
    body: bytes, exchange: Exchange, retry_after: float | None = None
) -> APIStatusError:
    """
    Return the error for a response with an error status and *body*. *retry_after* is the delay that
    its headers ask for, in seconds.
    """
    assert exchange.status is not None
    try:
        wire = parsed_body(body)
    except ValueError:
        wire = None
    if is_object(wire) or is_list(wire):
        report = ErrorReport.read(wire)
        if wire and report.message is None and report.code is None:
            report = report._replace(message=first_part(body))
        if retry_after is None:
            retry_after = retry_delay_in(wire)
        return status_error(exchange.status, report, wire, exchange, retry_after)
    message = text_of_page(body) or first_part(body)
    report = ErrorReport(None, message or None, None)
    return status_error(exchange.status, report, first_part(body), exchange, retry_after)


def status_error(
    status: int,
    report: ErrorReport,
    body: Any,
    exchange: Exchange,
    retry_after: float | None = None,
) -> APIStatusError:
    """
    Return the error with *status* that *report* describes.
    """
    message = report.message or "no reason was given"
    parts = [f"{status} {report.code}" if report.code else str(status), message]
    if report.code is None and message.startswith(f"{status} "):
        parts = [message]  # the text of a page starts with the status
    advice = _advice(status, report, exchange)
    if retry_after:
        advice = f"{advice} It asks to be left alone for {retry_after:g} s.".strip()
    error = status_error_class(status)(": ".join(parts) + (f" | {advice}" if advice else ""))
    error.message = message
    error.code = report.code
    error.body = body
    if status != exchange.status:
        error.named_status = status
    error.body_request_id = report.request_id
    error.retry_after = retry_after
    error.exchange = exchange
    return error


_ADVICE_BY_CODE = {
    "unsupported_model_or_endpoint": "The gateway knows no such model: check its id.",
    "key_limit_exceeded": (
        "The key's quota is used up; a few seconds won't help. Raise it, or use another key."
    ),
    "insufficient_quota": (
        "The quota is used up; a few seconds won't help. Raise it, or add credit."
    ),
    "google_empty_response": (
        "The model gave no visible output: raise the token limit or change the prompt."
    ),
}

_ADVICE_BY_STATUS = {
    400: "Fix the request; the same request would fail again.",
    401: "Check the key: AI_STATS_API_KEY in the environment, or api_key=.",
    402: "Add credit to the account.",
    403: "Use a key that is allowed to do this, or another model or region.",
    404: "Check base_url: there is nothing at this address.",
    407: "Check the user name and the password of the proxy in HTTP_PROXY or HTTPS_PROXY.",
    409: "Try again when it is ready.",
    413: "Send less: the gateway takes at most 16 MiB of JSON, a proxy may take less.",
    422: "Fix the request; the same request would fail again.",
    429: "Send fewer requests at a time, and try again later.",
}


def _advice(status: int, report: ErrorReport, exchange: Exchange) -> str:
    if 300 <= status < 400:
        return _advice_on_redirect(exchange)
    if status == 401 and report.message == "db_error":
        return "The gateway's key store was down: try again."
    if by_code := _ADVICE_BY_CODE.get(report.code or ""):
        return by_code
    if status == 404 and exchange.request is not None:
        return f"Check base_url: there is nothing at {exchange.request.url}."
    return _ADVICE_BY_STATUS.get(status) or ("Try again later." if status >= 500 else "")


def _advice_on_redirect(exchange: Exchange) -> str:
    location = exchange.headers.get("location")
    if location is None:
        return "It redirects to nowhere: check that base_url leads to the gateway's API."
    if exchange.request is not None:  # the URL may be relative
        location = urljoin(exchange.request.url, location)
    kept = "Redirects are not followed, since the key and the prompt would go with them"
    address = location.partition("?")[0].rstrip("/")
    if not address.endswith("/chat/completions"):
        return f"It redirects to {location}, which is not the gateway's API. {kept}."
    base_url = address.removesuffix("/chat/completions")
    return (
        f"It redirects to {location}. {kept}: if that is the gateway, set base_url to {base_url}."
    )
