"""
Many calls: rows in, one outcome for each row out, for both calling styles.

What belongs here:

- rows and requests: `source` reads rows, `plan` makes requests of them, `feeding` brings them to
  the engine
- rules, each in one file: `admission` and `pace` decide what may be sent now, `known` which answers
  need no request, `spending` what a budget still allows, `stopping` when a run stops, and `outbox`
  in which order outcomes are delivered
- work: `opening` starts a run, `engine` applies the rules, `in_flight` has a task for each request,
  `beside` has the tasks and calls that end with the run
- results: `outcome`, `statistics` and `results`, and the objects that the user holds (`run`)
- the file that a run is resumed from: `checkpoint`, and a line of it (`record`)

It may import single calls (`_call`) and all that is below them. What never goes here: the retries
within a call, which are in `_call` (a run only sends a row again that was throttled), and anything
about HTTP, which is in `_net`.
"""
