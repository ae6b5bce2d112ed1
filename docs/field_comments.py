"""A Griffe extension for docs/api: the comment beside a field, its shape, is its description.

Griffe reads docstrings only, and drops a field that has none.
"""

import ast
from typing import Any

from griffe import Attribute, Docstring, Extension


class FieldComments(Extension):
    """Describes each field of a class without a docstring by the comment on its line."""

    def on_attribute_instance(self, *, node: Any, attr: Attribute, **kwargs: Any) -> None:
        """Griffe calls it for each attribute of a module or class that it has read."""
        if attr.docstring is not None or not isinstance(node, ast.AnnAssign):
            return
        if not (attr.parent and attr.parent.is_class):
            return
        _, mark, comment = attr.source.rpartition("  # ")
        if mark and attr.lineno == attr.endlineno and not comment.startswith(("noqa", "type:")):
            attr.docstring = Docstring(comment, lineno=attr.lineno, parent=attr)
