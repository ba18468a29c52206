"""The README as the package index shows it: links into the repository are absolute there, pictures are files."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Readme(MetadataHookInterface):
    """`[project]` is static but for this; the address is that of `[project.urls]`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the long description."""
        home = metadata["urls"]["Homepage"]
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        text = re.sub(r"(!\[[^\]]*\]\()(?!\w+:)", rf"\g<1>{home}/raw/main/", text)
        text = re.sub(r"(\]\()(?!\w+:)", rf"\g<1>{home}/blob/main/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
