"""
The peers: clients that are measured side by side, each in a module of its own.

Each module has the class `Peer`, with the same few methods: `call`, `stream`, `first_token` and
`close`, coroutine functions where the peer is asynchronous. A module is imported only in the
process that measures it, and nothing is imported here: it would count as the peer's.
"""
