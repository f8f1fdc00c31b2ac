"""The embedded store: one SQLite file, one writer thread, durable before it answers."""
