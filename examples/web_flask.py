"""
A Flask service that streams an answer, and reports a failed call by its status.

Start it with `flask --app examples/web_flask.py run`, and ask it with
`curl -N "localhost:5000/ask?q=hi"`.
"""

from __future__ import annotations

import os

import flask

import aistats

MODEL = os.environ.get("MODEL", "openai/gpt-4o-mini")

app = flask.Flask(__name__)
client = aistats.Client()


@app.get("/ask")
def ask() -> flask.Response:
    """
    Stream the answer to the query's `q` as plain text.
    """
    # The response has not started yet, so an error of the gateway can still set its status.
    stream = client.stream_text(model=MODEL, messages=flask.request.args["q"]).open()
    response = flask.Response(stream.text_deltas(), mimetype="text/plain")
    response.call_on_close(stream.close)  # also when the visitor leaves
    return response


@app.errorhandler(aistats.AIStatsError)
def failed(error: aistats.AIStatsError) -> tuple[flask.Response, int]:
    """
    Report a failed call: 429 if the gateway is busy, else 502.
    """
    status = 429 if isinstance(error, aistats.RateLimitError) else 502
    return flask.jsonify(error=error.message), status
