"""A file of examples → an agent's folder: read, propose, cut a benchmark off, check, write."""
