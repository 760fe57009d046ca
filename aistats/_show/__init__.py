"""
How things look: plain values in, HTML and terminal text out.

Here belong cards for answers, errors and streams, progress, and tracebacks in notebooks. It may
import the record of a call (`_exchange`), the numbers of a run (`_progress`) and the clock, and
nothing else of the package: each object hands over its own facts as plain values. Everything that
comes from outside is escaped.
"""
