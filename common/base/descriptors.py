"""How many connections a server may hold, so that there are descriptors left for its own files.

Invariant: of what the system allows, `KEPT` descriptors (and no less than a quarter) are never
given to strangers' sockets: databases, run folders and logs can always be opened.

Example: `most_connections()` is 8192 where the hard limit is 65536.
"""

from __future__ import annotations

import resource

KEPT = 256
MOST = 1 << 13  # a pool has dozens of outlets; each connection costs some 20 KB


def most_connections() -> int:
    """Raise this process's soft limit to its hard one; connections that a port may then hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + 4 * KEPT
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return MOST
    return max(1, min(MOST, soft - max(KEPT, soft // 4)))
