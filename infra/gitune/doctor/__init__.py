"""`gitune doctor`: what of machine, repository, backend, providers and GitHub is not as it must be. Reads only.

Each module collects facts at its edge and judges them in pure functions; run.py calls them all.
"""
