"""One module per family of commands: argv → one call → text or JSON → exit code."""
