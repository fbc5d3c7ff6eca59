"""Local servers that speak the providers' protocols over real HTTP."""
