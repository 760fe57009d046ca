"""
A small language model on the user's own machine.

Here belong fetching the model's file, the child process that serves it, and the transport that
translates requests for it. A call takes the same path as to the gateway: the clients talk HTTP to
the child on loopback.

It may import the clients and everything below them. `server.py` is the child's program: it runs by
itself and imports nothing of the package. No other folder imports this one.
"""
