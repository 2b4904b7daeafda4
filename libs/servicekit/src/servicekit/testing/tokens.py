"""Files of static tokens, in which every token is the name of whom it stands for."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def write_tokens(path: Path, scopes: Mapping[str, str]) -> None:
    """Write the file that ``auth_tokens_file`` names.

    Args:
        path: the file.
        scopes: of each name; the empty text for none.
    """
    lines = [
        f"{name} {hashlib.sha256(name.encode()).hexdigest()} {granted}"
        for name, granted in scopes.items()
    ]
    path.write_text("\n".join(lines))
