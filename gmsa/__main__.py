"""`python -m gmsa`: the same as `gmsa`."""

from gmsa import main

main()
