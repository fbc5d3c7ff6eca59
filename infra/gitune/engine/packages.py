"""What `python -m pip list -v --format json` says of names, versions and places, without pip: run as a script."""

from __future__ import annotations

import json
import re
from importlib import metadata

_FIELDS = re.compile(r"^(Name|Version): *(.+?) *$", re.MULTILINE)


def installed() -> list[dict[str, str]]:
    """Each package once, as Python would import it: the first on the path."""
    found: dict[str, dict[str, str]] = {}
    for distribution in metadata.distributions():
        # .metadata parses all of the file, description included; both fields stand at its beginning
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        fields = dict(_FIELDS.findall(text.partition("\n\n")[0]))
        if fields.keys() == {"Name", "Version"}:  # not so where an installation was left half done
            entry = {
                "name": fields["Name"],
                "version": fields["Version"],
                "location": str(distribution.locate_file("")),
            }
            found.setdefault(re.sub(r"[-_.]+", "-", fields["Name"]).lower(), entry)
    return list(found.values())


if __name__ == "__main__":
    print(json.dumps(installed()))
