"""Token log-probabilities beside the traces: records, columns, spool, Parquet store and reading."""
