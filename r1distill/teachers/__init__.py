"""Who answers, and how to ask: one file per concern, `providers.py` is the table."""
