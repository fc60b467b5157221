"""What `benchmarks/race.py` is made of: the peers, each run as its documentation says, and one way to score them."""
