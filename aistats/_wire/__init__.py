"""
The gateway's bytes: event streams to chunks, bodies to completions or errors.

Here belongs everything that reads the wire format: server-sent events, the five shapes of streams,
merging chunks into one response, error bodies, and the table entry of an operation. The code does
no I/O: it gets bytes and returns values or raises errors, so a test needs no server.

It may import views, errors and options. It never imports aiohttp or asyncio, knows no attempt,
limit or client, and reads no clock and no environment.
"""
