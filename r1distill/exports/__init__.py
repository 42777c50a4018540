"""The forms a trained student leaves in: a merged folder, one GGUF file, or the adapter. export.py is the verb."""
