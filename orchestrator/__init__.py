"""A microservice platform on one Linux host from kernel primitives alone."""

__version__ = "0.1.0"
