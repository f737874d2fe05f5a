"""`python -m chromogen` is `chromogen`."""

from chromogen.app.cli import main

main()
