"""
What may be sent: parameters, their rules, and the way from a request to bytes.

Belongs here: the declared parameters (`params`), rules for their values, checking and converting
values, and encoding a request as JSON.
May import: options, errors, views, and the places below those. Nothing of `_wire` or `_net`.
Never here: I/O, clocks, retries, or anything that concerns the response.
"""
