"""What the workflows ask of GitHub: comments and checks, pull requests of locks, deployments, issues of drift.

Each module is one command: what there is, what should be, and the difference done. All may be killed and called again.
"""
