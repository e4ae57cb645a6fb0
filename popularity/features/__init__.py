"""Features: from the song table to numbers, for the network and for every baseline."""
