"""
One call: from an operation and the bytes of its request to an answer, or a stream of it.

Here belongs what happens to a call whatever it asks for: credentials, attempts, limits on how many
are in flight, and the stream objects. `attempts` makes the attempts; `RetryPolicy` in `_options`
decides which errors are retried. `chat` makes the calls of the one operation that there is.

A file here may import `_request`, `_wire`, `_net` and what is below them. It never imports a client
or a run of many calls. It never reads the wire format itself: an operation names the function in
`_wire` that reads its answer, and a stream has a decoder from there.
"""
