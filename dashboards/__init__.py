"""The dashboards, and what writes them: `make dashboards`."""
