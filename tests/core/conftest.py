"""How hypothesis looks for counterexamples: the same ones in CI every time, others on a laptop.

A failure prints the lines that repeat it.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("project", deadline=None, print_blob=True, database=None)
settings.register_profile("ci", settings.get_profile("project"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI", "").lower() == "true" else "project")
