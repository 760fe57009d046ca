"""
What may be sent: parameters, their rules, and a request's way to bytes.
"""
