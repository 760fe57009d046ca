"""
How things look: plain values in, HTML and terminal text out.
"""
