"""The kernel's view of the request path, taken without touching any request."""
