"""Why does NODE not answer? A walk through the layers, and the first one that is broken."""
