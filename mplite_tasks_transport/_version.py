"""The version of the distribution, for both packages."""

__version__ = "0.1.0"
