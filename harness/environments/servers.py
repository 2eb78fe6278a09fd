"""What a server is given by the harness where it shares a machine with others: next to nothing.

It inherits no variable that is not named here, since the harness' own may hold tokens, and no privilege: also as root
it has no capabilities, and no program that it starts gains any. Faults come from outside and need nothing of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from harness.environments.programs import search_path

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are on any machine; an ordinary user's own path may lack those of administrators."""
UMASK: Final = 0o077
"""What a server writes is nobody else's business; stores that rewrite their configuration would make it readable."""
LANGUAGE: Final = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")


def environment(home: str, given: Mapping[str, str] | None, *, here: bool = False) -> dict[str, str]:
    """The variables of a server that lives in ``home``: where programs are, and what its target gives.

    ``here``, on this machine, programs are where the harness finds them, and the language is its own.
    """
    own = {name: os.environ[name] for name in LANGUAGE if name in os.environ} if here else {}
    return {"PATH": search_path() if here else PATH, "HOME": home, **own, **(given or {})}


def unprivileged(argv: Sequence[str], *, keep: Sequence[str] = ()) -> list[str]:
    """The command without capabilities but for those to ``keep``, and without a way to more; its user stays."""
    bounding = ",".join(["-all", *(f"+{name}" for name in keep)])
    dropped = ("--inh-caps=-all", "--ambient-caps=-all", f"--bounding-set={bounding}")
    return ["setpriv", "--no-new-privs", *dropped, "--", *argv]
