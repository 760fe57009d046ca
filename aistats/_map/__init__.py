"""
Many calls: rows in, outcomes out.
"""
