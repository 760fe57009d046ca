"""
A small language model on the user's own machine.
"""
