"""The part of the package's metadata that names the repository: hatchling runs this when it builds the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RepositoryMetadata(MetadataHookInterface):
    """The project's URLs, and a README whose links to files of the repository also work on the package index."""

    def update(self, metadata: dict[str, Any]) -> None:
        repository, tag = self.config["repository"], f"v{metadata['version']}"
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        # ![an image](target) and [a link](target), where the target is neither a URL nor an anchor.
        readme = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\1{repository}/raw/{tag}/", readme)
        readme = re.sub(r"(?<!!)(\[[^\]]*\]\()(?!https?:|#)", rf"\1{repository}/blob/{tag}/", readme)
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}
        metadata["urls"] = {
            "Changelog": f"{repository}/blob/{tag}/docs/project/changelog.md",
            "Documentation": f"{repository}/tree/{tag}/docs",
            "Source": repository,
        }
