"""HTTP in: ingest, query, operate, metrics, and the process lifecycle of the data plane."""
