"""Files that are there whole or not at all."""

import os
import secrets
from pathlib import Path


def write_whole(target: Path, raw: bytes) -> None:
    """Write a file whole, or leave what is there as it was. Raises OSError."""
    written = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        with written.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        written.replace(target)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
