"""
What comes back, as typed views over the wire's JSON.

A view holds the JSON object as it came and reads a field when a caller asks for it. So `to_dict()`
is exactly the wire's JSON, unknown fields are kept, and an odd or missing field reads as `None` or
an empty list and affects nothing else. A class declares its fields by annotation; `WireObject`
turns each into a property.

Here belong reading JSON and views of messages, usage and completions. The code is pure and may
import the record of a call and, inside functions that only a display calls, `_show`. It never
raises an error of the package: views lie below errors, since an error carries what had arrived.
"""
