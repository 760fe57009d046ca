"""
Bytes over aiohttp: connections, deadlines, the loop thread.
"""
