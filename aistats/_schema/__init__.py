"""
Structured answers, without I/O: types to JSON Schema, and the text of an answer to typed values.

`describe` turns a type into a tree of kinds, which make the schema and read the answer. `foreign`
does the same for pydantic and msgspec with their own schema and validation. `strict` turns any
schema into the subset that providers enforce, and takes an answer's JSON back from that form.
`answer` finds the JSON in a text. `output` puts these together.
"""
