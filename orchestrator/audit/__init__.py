"""Whether live processes and servers are as closed as is claimed, with the evidence."""
