"""
Bytes to chunks, completions or errors, without I/O.
"""
