"""
The parameters of a request, by subject: `TypedDict`s that type checkers read and `convert` checks
values against at run time.

Belongs here: declarations, with types, ranges (`rules`) and documentation. A new operation shares
these files and adds one for its own parameters, as `chat` is for chat completions.
May import: views that can be sent back (`Message`, `ToolCall`), `rules`, and each other.
Never here: code that checks or converts values.

- Each parameter stands in its class twice: under `Keys:` in the docstring, which `help()`, hover
  texts and `docs/parameters.md` show, and as a field with its type. `python docs/parameters.py`
  writes that page.
- A `Literal` beside `str` lists the known values for editors. Any other string passes, too, since
  the gateway's lists grow.
- `Mapping[str, object]` and `object` are free JSON, which is passed on unchanged.
- Undeclared keys of a mapping pass, except at the top of a request and in `documents`.
- `Mapping[str, object]` in a union of declared mappings is for type checkers: a dict in a variable
  is not a `TypedDict` to them.
- These files don't import `annotations` from `__future__`: `TypedDict` would not see `NotRequired`.
"""
