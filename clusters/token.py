"""The secret that Ray's token authentication asks for: made once, readable by its owner only, never shown."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from clusters.errors import ClusterError

TOKEN_BYTES = 32
MIN_TOKEN_LENGTH = 16


def token_path() -> Path:
    """Return the file that Ray reads the token from: ``RAY_AUTH_TOKEN_PATH``, or Ray's own default."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def ensure_token(path: Path | None = None) -> Path:
    """Make the token if there is none, take away what others may read of it, and return its path.

    Ray makes the same file itself, but with the permissions of the umask: usually readable by every user of the
    machine, who could then run code as its owner.

    Args:
        path: The token's file; by default the one that Ray reads.

    Raises:
        ClusterError: If the file cannot be written or protected, or holds something too short to be a secret.
    """
    path = path or token_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(0o600)
        else:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(TOKEN_BYTES))
        length = len(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(
            f"the token file {path} cannot be kept private ({error.__class__.__name__}); "
            "set RAY_AUTH_TOKEN_PATH to a file that you own"
        ) from error
    if length < MIN_TOKEN_LENGTH:
        raise ClusterError(f"the token in {path} has {length} characters, too few for a secret; delete the file")
    return path


if __name__ == "__main__":
    ensure_token()
