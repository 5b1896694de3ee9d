"""Gin files that ship with the package; every folder is a package so that gin finds them."""
