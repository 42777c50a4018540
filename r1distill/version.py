"""The version, in one place (a test holds pyproject.toml to it)."""

__version__ = "0.1.0"
