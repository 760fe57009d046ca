"""
Many calls: rows in, one outcome for each row out, for both calling styles.

What belongs here: reading rows and making requests of them (`source`, `plan`), sending them
(`engine`, `pace`), what comes of them (`outcome`, `statistics`), the file that a run is resumed
from (`checkpoint`, `record`), and what the user holds (`run`).

It may import single calls (`_call`) and all that is below them. What never goes here: retries and
limits of a single call, which are in `_call`, and anything about HTTP, which is in `_net`.
"""
