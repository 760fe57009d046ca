"""
One call: from an operation and the bytes of its request to an answer, or a stream of it.

Here belongs what happens to a call whatever it asks for: credentials, attempts and retries, limits
on how many are in flight, and the stream objects.

A file here may import `_request`, `_wire`, `_net` and what is below them. It never imports a client
or a run of many calls, and it never parses what an answer means: that is the operation's work.
"""
