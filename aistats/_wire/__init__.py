"""
The gateway's bytes: event streams to chunks, bodies to completions or errors.

Here belongs everything that reads the wire format: server-sent events, the five shapes of streams,
merging chunks into one response, error bodies, and the table entry of an operation. The code does
no I/O: it gets bytes and returns values or raises errors, so a test needs no server.

A stream has one of five shapes, by the provider behind the gateway:

- OpenAI: deltas, tool calls in pieces by index, usage last, `[DONE]`
- Responses and Anthropic: deltas, tool calls whose arguments repeat what came before, and at the
  end a whole completion (a snapshot) in place of `[DONE]`
- other compatible providers: deltas with reasoning under other names, whole tool calls, no `[DONE]`
- Vertex: tool calls whose index and id start again with each payload
- server tools and AI Studio: everything at the end, usage before the stop chunk

The gateway's older version sends items, one choice for each, and events of Anthropic's Messages
(`anthropic`). `decoder` reads all of them, `deltas` gives each chunk a delta, and `assemble` merges
them.

Tool calls are read in `_views.message`, merged in `tool_calls`, told from other keys in `assemble`
and `deltas`, and repaired in `surrogates`.

It may import views, errors and options. It never imports aiohttp or asyncio, knows no attempt,
limit or client, and reads no clock and no environment.
"""
