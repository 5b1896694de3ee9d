"""What pytest does not collect here."""

# A program for mypy; to look for examples in it, pytest would import all that it imports.
collect_ignore = ["typed_user.py"]
