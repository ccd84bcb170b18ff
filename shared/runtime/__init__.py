"""The runtime: hosts any service, in one process on SQLite or apart. Explained on one page in ``docs/runtime.md``."""
