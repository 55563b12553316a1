"""The decisions: due times, what is held, what is paused, what may be committed.

Pure: no client, clock, thread, log or environment. ``now_ms`` is an argument and decisions are
returned values; ``tests/test_architecture.py`` proves it.
"""
