"""
What comes back: JSON that was read, and typed views over it.
"""
