"""Search for the compression that gives the best accuracy in a memory budget."""
