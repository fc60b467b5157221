"""What the network is asked and how its answer is read, each with its inverse. Works without torch."""
