"""For the reference pages: reads the heading "Example:" as "Examples:", the one under which griffe looks for doctests."""

import re
from typing import Any

import griffe


class ExampleHeading(griffe.Extension):
    """Mends each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe with every object that has been read."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
