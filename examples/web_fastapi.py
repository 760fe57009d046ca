"""
A FastAPI service that streams an answer, and reports a failed call by its status.

Start it with `uvicorn --app-dir examples web_fastapi:app`, and ask it with
`curl -N "localhost:8000/ask?q=hi"`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

import aistats

MODEL = os.environ.get("MODEL", "openai/gpt-4o-mini")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """
    Keep one client, and so one pool of connections, for the life of the service.
    """
    async with aistats.AsyncClient() as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(q: str) -> StreamingResponse:
    """
    Stream the answer to *q* as plain text.
    """
    client: aistats.AsyncClient = app.state.client
    # The response has not started yet, so an error of the gateway can still set its status.
    stream = await client.stream_text(model=MODEL, messages=q).open()
    return StreamingResponse(stream.text_deltas(), media_type="text/plain")


@app.exception_handler(aistats.AIStatsError)
async def failed(request: Request, error: aistats.AIStatsError) -> JSONResponse:
    """
    Report a failed call: 429 if the gateway is busy, else 502.
    """
    status = 429 if isinstance(error, aistats.RateLimitError) else 502
    return JSONResponse({"error": error.message}, status)
