"""
HTTP over aiohttp: connection pools, sending, reading, deadlines, TLS, proxies, threads, the loop.

This is the only folder that imports aiohttp, multidict and yarl at run time. It may import errors,
options and the record of a call. It has no code for operations, retries or completions. An aiohttp
exception never leaves the folder, since its frames hold the key.
"""
