"""Predict a song's Spotify popularity with Mamba."""
