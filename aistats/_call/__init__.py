"""
One call: attempts, limits, streams.
"""
