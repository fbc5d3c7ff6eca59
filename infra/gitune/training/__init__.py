"""Training: the script that every provider runs, and the base model of the embedded default."""
