"""
Bytes over aiohttp: connection pools, sending, reading, deadlines, TLS, proxies, the loop thread.

This is the only folder that imports aiohttp, multidict and yarl at run time. It may import errors,
options and the record of a call. It knows HTTP, and no operation, attempt, retry or completion.
An aiohttp exception never leaves it: its frames hold the key.
"""
