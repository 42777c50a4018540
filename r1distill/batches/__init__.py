"""What `batch.py` is made of: the plan of a batch, its files, its ledger, the waiting for it and the taking in of its answers."""
